"""The part of W&B's GraphQL schema that launches touch, as W&B publishes it in wandb/weave."""

from graphql import build_schema

SCHEMA = build_schema("""
scalar DateTime
scalar JSON
scalar JSONString

type Query {
  project(name: String, entityName: String): Project
  entity(name: String): Entity
}

type Mutation {
  pushToRunQueue(input: PushToRunQueueInput!): PushToRunQueuePayload
  pushToRunQueueByName(input: PushToRunQueueByNameInput!): PushToRunQueueByNamePayload
  deleteFromRunQueue(input: DeleteFromRunQueueInput!): DeleteFromRunQueuePayload
}

type Entity { id: ID! name: String! defaultResourceConfig(id: ID!): DefaultResourceConfig }
type DefaultResourceConfig { id: ID! config: JSON resource: String! }

type Project {
  id: ID!
  name: String!
  launchAgents: [LaunchAgent!]!
  runQueue(name: String!): RunQueue
  runQueues: [RunQueue!]!
  runs(
    filters: JSONString, order: String, after: String, first: Int
  ): RunConnection
}

type LaunchAgent {
  id: ID!
  name: String!
  agentStatus: String!
  heartbeatAt: DateTime
  hostname: String!
  runQueues: [ID!]!
}

enum RunQueueAccessType { PROJECT USER }
enum RunQueueItemState { CLAIMED FAILED LEASED PENDING }

type RunQueue {
  id: ID!
  name: String!
  access: RunQueueAccessType!
  defaultResourceConfigID: ID
  runQueueItem(id: ID!): RunQueueItem
  runQueueItems(after: String, first: Int): RunQueueItemConnection!
}

type RunQueueItem {
  id: ID!
  associatedRunId: String
  launchAgentId: ID
  runSpec: JSON!
  state: RunQueueItemState!
}

type RunQueueItemConnection { edges: [RunQueueItemEdge!]! pageInfo: PageInfo! }
type RunQueueItemEdge { cursor: String! node: RunQueueItem! }
type PageInfo { endCursor: String hasNextPage: Boolean! }

type Run {
  id: ID!
  name: String!
  displayName: String
  state: String
  config: JSONString
  createdAt: DateTime!
  heartbeatAt: DateTime
}

type RunConnection { edges: [RunEdge!]! pageInfo: PageInfo! }
type RunEdge { cursor: String! node: Run! }

input PushToRunQueueInput { queueID: ID! runSpec: JSONString! }
input PushToRunQueueByNameInput {
  entityName: String!
  projectName: String!
  queueName: String!
  runSpec: JSONString!
}
type PushToRunQueuePayload { runQueueItemId: ID! runSpec: JSONString! }
type PushToRunQueueByNamePayload { runQueueItemId: ID! runSpec: JSONString! }

input DeleteFromRunQueueInput { queueID: ID! runQueueItemId: ID! }
type DeleteFromRunQueuePayload { success: Boolean }
""")
