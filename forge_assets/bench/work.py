"""The work that every contestant gets: the first prompts of the demo's first step."""

from dataclasses import dataclass
from itertools import islice

from forge_assets.config import project_root
from forge_assets.workflow.spec import Step, load_workflow
from forge_assets.workflow.template import render
from forge_assets.workflow.verdict import judge_output
from resources.docstrings import read_docstrings
from resources.gpu.engines.base import Completion, GenerationRequest

_MODELS = ("smollm2-135m", "smollm2-135m-fp32")


@dataclass(frozen=True)
class Work:
    """Greedy requests without grammar and stop texts, which not every contestant has."""

    step: Step
    requests: tuple[GenerationRequest, ...]

    def valid(self, completion: Completion) -> bool:
        """Whether the step would accept the text, cut at the step's own stop texts."""
        if completion.error is not None:
            return False
        text = completion.text
        places = [place for stop in self.step.generate.stop if (place := text.find(stop)) >= 0]
        truncated = not places and completion.finish_reason in ("length", "repetition")
        kept = text[: min(places)] if places else text
        return judge_output(kept, self.step.output, truncated).accepted


def demo_work(rows: int, new_tokens: int) -> Work:
    """``rows`` prompts, each to be continued by at most ``new_tokens``."""
    step = load_workflow(project_root() / "workflows" / "api_review.yaml", _MODELS).steps[0]
    requests = tuple(
        GenerationRequest(number, render(step.prompt, record.fields, {}), new_tokens)
        for number, record in enumerate(islice(read_docstrings(), rows))
    )
    return Work(step, requests)
