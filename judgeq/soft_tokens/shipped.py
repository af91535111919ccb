"""Where the soft tokens lie that come with this library. Knows nothing of what is in them beyond their config."""

from __future__ import annotations

from pathlib import Path

from judgeq._assets import assets_path
from judgeq.errors import InputError
from judgeq.models.embedded import public_name, same_model
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens import hub
from judgeq.soft_tokens.config import CONFIG_FILE, SoftTokensConfig


def shipped_for(lm: LanguageModel) -> Path:
    """The folder of soft tokens that come with this library."""
    for config in sorted(assets_path("soft_tokens").glob(f"*/{CONFIG_FILE}")):
        if same_model(SoftTokensConfig.load(config).base_model, lm.name):
            return config.parent
    others = hub.published("judgeq", public_name(lm.name)) if lm.revision is not None else []
    found = f" (others have published {', '.join(others)} on the Hub)" if others else ""
    raise InputError(
        f"No soft tokens are shipped for {lm.name}{found}: name a folder or a Hub repository of some, or train "
        f"them with `python -m judgeq train --model {lm.name}`"
    )
