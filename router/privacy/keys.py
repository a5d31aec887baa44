"""Finds keys, tokens and passwords in text: by detect-secrets' patterns, and by a few that it lacks.

Of its plugins only those are used whose patterns take time linear in the text: a prompt may be hostile, and the ones
for JWTs, URLs and OpenAI's keys are quadratic. Those are written anew here, anchored to where a word begins. Nothing is
ever verified: that would send the key out.
"""

import re

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

PLUGINS: tuple[RegexBasedDetector, ...] = (
    AWSKeyDetector(),
    AzureStorageKeyDetector(),
    DiscordBotTokenDetector(),
    GitHubTokenDetector(),
    GitLabTokenDetector(),
    PrivateKeyDetector(),
    PypiTokenDetector(),
    SendGridDetector(),
    SlackDetector(),
    SquareOAuthDetector(),
    StripeDetector(),
    TelegramBotTokenDetector(),
    TwilioKeyDetector(),
)

MAILCHIMP = MailchimpDetector()

PREFIXES = ("hf", "gsk", "xai", "npm", "dop_v1", "shpat", "nvapi", "github_pat")
"""Of Hugging Face, Groq, xAI, npm, DigitalOcean, Shopify, NVIDIA and GitHub's newer tokens."""

PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"sk-(?<![\w-]sk-)[A-Za-z0-9][\w-]{19,}",  # OpenAI, Anthropic, OpenRouter, DeepSeek, Shoal
        r"eyJ(?<![\w-]eyJ)[\w-]{8,2048}\.eyJ[\w-]{8,4096}\.",  # JWT: header and claims both begin with {"
        r"AIza(?<![\w-]AIza)[\w-]{35}",  # Google
        *(rf"{prefix}(?<![\w-]{prefix})[_-][A-Za-z0-9_-]{{20,}}" for prefix in PREFIXES),
        r"://[^\s:/@]{1,64}:[^\s/@]{3,128}@",  # a URL with a password
    )
)
"""A literal comes first: `re` then looks for that alone, fifty times as fast."""

PASSWORD = re.compile(
    r"\b(?:password|passwd|passphrase|api[ _-]?key|client[ _-]?secret|access[ _-]?token)\b"
    r"[\"']?\s{0,3}(?:is|[:=])\s{0,3}[\"']?(?=[^\s\"']{0,64}\d)[^\s\"']{8,}"
)


def holds_key(text: str) -> bool:
    """Something in `text` looks like a key, a token or a password."""
    if any(pattern.search(text) for pattern in PATTERNS):
        return True
    plugins = (*PLUGINS, MAILCHIMP) if "-us" in text else PLUGINS
    return _holds_password(text) or any(True for plugin in plugins for _ in plugin.analyze_string(text))


def _holds_password(text: str) -> bool:
    lowered = text.lower()
    is_named = any(word in lowered for word in ("pass", "key", "secret", "token"))
    return is_named and PASSWORD.search(lowered) is not None
