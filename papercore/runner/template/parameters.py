"""Parameters of SLUG: the one schema of the notebook's parameters cell. Floor: papers; imports no torch."""

from pydantic import Field

from papercore.study.parameters import BaseParameters


class Parameters(BaseParameters):
    """The cpu values are the defaults; profiles/ has the other sizes."""

    budget_seconds: float = Field(60, gt=0, description="time the run should take on two cores, s")
    n_texts: int = Field(400, ge=10, le=1_000_000, description="texts with one score each; the paper's value: unknown")
    effect: float = Field(0.5, ge=0, description="true rise of the mean score, in standard deviations")
