"""The GraphQL documents, under the names that W&B's own client gives them.

A queue item's ``runSpec`` and a project's ``launchAgents`` are asked by no query of that client;
they stand in the server's schema (types RunQueueItem and Project), as W&B publishes it in
wandb/weave, weave-js/src/generated/graphql.ts.
"""

LAUNCH_PROJECT = "model-registry"
"""The project of an entity in which all its queues live."""

QUEUE = """
query GetRunQueueMetadata($projectName: String!, $entityName: String!, $runQueue: String!) {
  project(name: $projectName, entityName: $entityName) {
    runQueue(name: $runQueue) { id defaultResourceConfigID }
  }
}
"""

RESOURCE = """
query GetDefaultResourceConfig($entityName: String!, $id: ID!) {
  entity(name: $entityName) {
    defaultResourceConfig(id: $id) { resource }
  }
}
"""

ITEMS = """
query GetRunQueueItems(
  $projectName: String!, $entityName: String!, $runQueue: String!, $after: String, $first: Int
) {
  project(name: $projectName, entityName: $entityName) {
    runQueue(name: $runQueue) {
      runQueueItems(after: $after, first: $first) {
        edges { node { id state associatedRunId runSpec } }
        pageInfo { endCursor hasNextPage }
      }
    }
  }
}
"""

ITEM = """
query GetRunQueueItem(
  $projectName: String!, $entityName: String!, $runQueue: String!, $itemId: ID!
) {
  project(name: $projectName, entityName: $entityName) {
    runQueue(name: $runQueue) {
      runQueueItem(id: $itemId) { id state associatedRunId }
    }
  }
}
"""

AGENTS = """
query ProjectRunQueues($entity: String!, $projectName: String!) {
  project(entityName: $entity, name: $projectName) {
    runQueues { id name }
    launchAgents { id name runQueues hostname agentStatus heartbeatAt }
  }
}
"""

PUSH = """
mutation pushToRunQueueByName(
  $entityName: String!, $projectName: String!, $queueName: String!, $runSpec: JSONString!
) {
  pushToRunQueueByName(
    input: {
      entityName: $entityName, projectName: $projectName, queueName: $queueName, runSpec: $runSpec
    }
  ) { runQueueItemId }
}
"""

QUEUE_ID = """
query fetchRunQueuesFromProject(
  $entityName: String!, $projectName: String!, $runQueueName: String!
) {
  project(name: $projectName, entityName: $entityName) {
    runQueue(name: $runQueueName) { id }
  }
}
"""

REMOVE = """
mutation DeleteFromRunQueue($queueID: ID!, $runQueueItemId: ID!) {
  deleteFromRunQueue(input: {queueID: $queueID, runQueueItemId: $runQueueItemId}) { success }
}
"""

RUNS = """
query Runs(
  $project: String!, $entity: String!, $cursor: String, $perPage: Int = 50, $order: String,
  $filters: JSONString
) {
  project(name: $project, entityName: $entity) {
    runs(filters: $filters, after: $cursor, first: $perPage, order: $order) {
      edges { node { id name displayName state config createdAt heartbeatAt } }
      pageInfo { endCursor hasNextPage }
    }
  }
}
"""
