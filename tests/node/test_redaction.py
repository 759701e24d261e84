"""Redaction: what is a secret goes, what only looks like one stays."""

from __future__ import annotations

import base64
import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.capture.redaction import redact


def drawn(size: int, alphabet: str, seed: str) -> str:
    """Text that looks random and is the same in every run; no real secret stands in a file."""
    state = hashlib.sha512(seed.encode()).digest() * 8
    return "".join(alphabet[byte % len(alphabet)] for byte in state[:size])


LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
DIGITS = "0123456789"
ALNUM = LOWER + UPPER + DIGITS
B64 = base64.b64encode(hashlib.sha512(b"key").digest() * 6).decode()
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{B64[:64]}\n{B64[64:128]}\n-----END RSA PRIVATE KEY-----"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', bytes(range(32)))
)

SECRETS = {
    "aws key id": ("AKIA" + drawn(16, UPPER + DIGITS, "aws"), "key_id = {}", "aws-key"),
    "aws secret": (drawn(40, ALNUM + "/+", "aws2"), 'aws_secret_access_key = "{}"', "secret"),
    "github classic": ("ghp_" + drawn(36, ALNUM, "gh"), "git clone https://x:{}@github.com", None),
    "github fine": ("github_pat_" + drawn(82, ALNUM + "_", "ghf"), "use {}!", "github-token"),
    "github bare": ("gho_" + drawn(36, ALNUM, "gho"), "TOKEN {}", "github-token"),
    "gitlab": ("glpat-" + drawn(20, ALNUM, "gl"), "PRIVATE-TOKEN: {}", "gitlab-token"),
    "slack bot": ("xoxb-" + drawn(40, DIGITS + "-" + LOWER, "xo"), "slack({})", "slack-token"),
    "slack hook": (
        "T" + drawn(8, UPPER, "t") + "/B" + drawn(8, UPPER, "b") + "/" + drawn(24, ALNUM, "s"),
        "curl https://hooks.slack.com/services/{}",
        "slack-webhook",
    ),
    "openai": ("sk-proj-" + drawn(64, ALNUM + "_-", "op"), "openai.api_key='{}'", "api-key"),
    "openai old": ("sk-" + drawn(48, ALNUM, "oo"), "export X={}", "api-key"),
    "anthropic": ("sk-ant-api03-" + drawn(80, ALNUM + "_-", "an"), "{}", "anthropic-key"),
    "stripe": ("sk_" + "live_" + drawn(24, ALNUM, "st"), "Stripe('{}')", "stripe-key"),
    "google": ("AIza" + drawn(35, ALNUM + "_-", "go"), "?key={}&v=1", "google-key"),
    "google oauth": ("ya29." + drawn(60, ALNUM, "ya"), "got {}", "google-token"),
    "npm": ("npm_" + drawn(36, ALNUM, "npm"), "//registry/:_authToken={}", None),
    "pypi": ("pypi-AgEIcHlwaS5vcmc" + drawn(60, ALNUM, "py"), "twine {}", "pypi-token"),
    "hugging face": ("hf_" + drawn(34, ALNUM, "hf"), "login {}", "huggingface-token"),
    "jwt": (JWT, "cookie: session={};", "jwt"),
    "pem": (PEM, "cat <<EOF\n{}\nEOF", "private-key"),
    "pem escaped": (PEM.replace("\n", "\\n"), 'key: "{}"', "private-key"),
    "pem cut off": (PEM[:140], "{}", "private-key"),
    "bearer": (drawn(40, ALNUM, "be"), "Bearer {}", "bearer"),
    "header": ("Zm9vOmJhcjEyMw==", 'headers["Authorization"] = "Basic {}"', "authorization"),
    "curl header": (drawn(20, ALNUM, "ch"), "-H 'Authorization: Bearer {}'", "authorization"),
    "url": ("s3cr3t!pw", "postgres://admin:{}@db.internal:5432/x", "url-password"),
    "url only password": ("hunter22", "redis://:{}@localhost:6379/0", "url-password"),
    "url token": (drawn(40, ALNUM, "ut"), "https://{}@example.com/x.git", "url-token"),
    "password quoted": ("hunter2", 'password = "{}"', "password"),
    "password json": ("Tr0ub4dor&3", '{{"dbPassword": "{}"}}', "password"),
    "password env": ("kJ8#mQ2!zz", "DB_PASSWORD={}", "password"),
    "password yaml": ("vX9pLm2Q", "  password: {}", "password"),
    "token": (drawn(32, ALNUM, "to"), "token: {}", "secret"),
    "secret hex": (hashlib.sha256(b"x").hexdigest(), 'SECRET_KEY = "{}"', "secret"),
    "client secret": (drawn(40, ALNUM + "~-", "cs"), "client_secret={}", "secret"),
    "api key": (drawn(32, LOWER + DIGITS, "ak"), "'apiKey': '{}'", "secret"),
    "azure": (
        base64.b64encode(bytes(range(64))).decode(),
        "DefaultEndpointsProtocol=https;AccountKey={};",
        None,
    ),
}  # fmt: skip

UUID = str(uuid.UUID(bytes=hashlib.md5(b"u").digest()))
SHA = hashlib.sha1(b"c").hexdigest()
LOOK_ALIKES = [
    f'id = "{UUID}"',
    f"commit {SHA}",
    f"index {SHA[:10]}..{SHA[10:20]} 100644",
    f'"integrity": "sha512-{B64[:86]}=="',
    f"data:image/png;base64,{B64}{B64}",
    f"sha256:{hashlib.sha256(b'y').hexdigest()}",
    "password = get_password(user)",
    "password: str = Field(min_length=8)",
    "token = request.headers['X-Token']",
    "token = self._tokens[index2]",
    'password = os.environ["DB_PASSWORD"]',
    "API_KEY=${API_KEY}",
    "secret: {{ vault_secret_1 }}",
    "token: <your-token-1234>",
    'max_tokens: 128000, "tokenCount": 4096123',
    'tokenizer = "bert-base-uncased-v2"',
    'password_field = "input-2b"',
    'secret_name = "projects/demo-12/secrets/db"',
    'next_page_token_type = "cursor_v2_base64"',
    'token = "access_token_v2"',
    "if password == confirm_password2:",
    '"password": "Password"',
    "password = '********'",
    "the bearer of this message was late, and bearer tokens are sent in a header",
    "Authorization: Bearer $TOKEN",
    'f"Authorization: Bearer {token}"',
    "class Task-list sk-folding-cube sk-spinner-double-bounce-child",
    "https://example.com:8080/a@b",
    "git@github.com:psf/requests.git",
    "https://user@example.com/path",
    "postgres://{user}:{password}@{host}/db",
    "mailto:someone@example.com?subject=token",
    'if "-----BEGIN PRIVATE KEY-----" in text: raise ValueError("no private keys here, please")',
    "-----BEGIN CERTIFICATE-----\n" + B64[:64] + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + B64[:64] + "\n-----END PUBLIC KEY-----",
    "ssh-rsa " + B64[:120] + " me@laptop",
    "def test_token_expires_after_3600_seconds():",
    "const tokenLimit = 'claude3haiku20240307';",
    "primary_key=True, foreign_key='user2.id'",
    "key = 'SGVsbG8gd29ybGQgMTIzNDU2Nzg5MA=='",
    "passwordHash(bcrypt12)",
    "a private function; <privateer> and </private> alone",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_replaced_and_what_is_around_it_stays(name: str) -> None:
    secret, template, kind = SECRETS[name]
    text = "before\n" + template.format(secret) + "\nafter"
    result = redact(text)
    assert secret not in result
    assert secret[len(secret) // 2 :] not in result
    assert result.startswith("before\n")
    assert result.endswith("\nafter")
    assert "[redacted:" + (kind or "") in result


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("name", SECRETS)
def test_redacting_twice_changes_nothing(name: str) -> None:
    once = redact(SECRETS[name][1].format(SECRETS[name][0]))
    assert redact(once) == once


def test_private_spans_are_removed_nested_upper_case_and_unclosed() -> None:
    assert redact("a <private>b</private> c") == "a  c"
    assert redact("a <PRIVATE>b <private>c</private> d</private> e") == "a  e"
    assert redact("a <private>b") == "a "


def test_nothing_but_a_private_span_leaves_the_placeholder() -> None:
    assert redact("<private>everything</private>\n") == "[redacted:private]"


@pytest.mark.parametrize(
    "piece",
    ["eyJ", "eyJa.", "sk-", "a:", "http://a:", "password", "password=", "-----BEGIN PRIVATE KEY-----",
     "<private>", "</private>", "AKIA", "bearer ", "a@", "token_", "x" * 50 + "://", "Authorization:"],
)  # fmt: skip
@pytest.mark.timeout(30)
def test_hostile_repetition_is_redacted_in_linear_time(piece: str) -> None:
    # A second or less; anything quadratic would take hours and run into the timeout.
    result = redact(piece * (1_000_000 // len(piece)))
    assert len(result) <= 20_000_000


@given(st.text(max_size=300))
def test_no_text_breaks_it_and_placeholders_are_stable(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
