"""A few scenes as the nano models are trained on: shards that the recipe itself wrote."""

from pathlib import Path

import pytest

from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe

RECIPE = Path(__file__).parents[2] / "examples/nano/scenes_train.yaml"


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 scenes with captions, questions, facts and hard negatives."""
    out = tmp_path_factory.mktemp("scenes") / "shards"
    recipe = Recipe.from_file(RECIPE)
    to, run = recipe.out.model_copy(update={"path": str(out)}), recipe.run.model_copy(update={"limit": 24})
    Pipeline(recipe.model_copy(update={"out": to, "run": run})).run()
    return out
