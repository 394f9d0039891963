"""What the operators of `when` and the error classes mean."""

from collections.abc import Mapping

from forge_assets.workflow.steps import Operator
from resources.interaction import ErrorClass

OPERATORS: Mapping[Operator, str] = {
    "==": "The answer is the value.",
    "!=": "The answer is another one.",
    "<": "The answer is less: of two numbers, or of two texts by their characters.",
    "<=": "The answer is less or the same.",
    ">": "The answer is more.",
    ">=": "The answer is more or the same.",
    "in": "The answer stands in the list `value`.",
    "contains": "The answer's text holds the text `value`, or the answer's list holds the value.",
}

ERROR_CLASSES: Mapping[ErrorClass, str] = {
    ErrorClass.TEMPLATE: "A placeholder has nothing to stand for in this subject, or the prompt is empty.",
    ErrorClass.PROMPT_TOO_LONG: "Prompt and `max_new_tokens` exceed the model's context, or a server says"
    " so.",
    ErrorClass.CONTRACT: "The answer breaks its contract.",
    ErrorClass.TRUNCATED: "The answer was cut off at `max_new_tokens` and breaks its contract.",
    ErrorClass.REPETITION: "The answer loops.",
    ErrorClass.OOM: "Out of memory with the request alone in its batch.",
    ErrorClass.ENGINE: "The engine failed on it, its schema cannot be compiled for decoding, or it leads"
    " to a point where no token is allowed. A server refused it, or answered with something else than a"
    " chat completion, twice.",
    ErrorClass.POISON: "The request fails alone while the engine is well otherwise, or six workers died"
    " or hung with it.",
    ErrorClass.TIMEOUT: "A server did not answer in time, twice.",
    ErrorClass.CONNECTION: "A server could not be reached, for six tries, and answers again. One that"
    " stays away ends the run instead.",
    ErrorClass.RATE_LIMIT: "A server had too much to do (429, 503), for six tries.",
    ErrorClass.CANCELLED: "Reserved.",
}
