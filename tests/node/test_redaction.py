"""Redaction: what is a secret goes, what only looks like one stays."""

from __future__ import annotations

import base64
import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.planted_secrets import Planted, planted
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
    f"github.com/creack/pty v1.1.9/go.mod h1:{B64[:43]}=",
    f'"alg": "SHA-256",\n          "content": "{hashlib.sha256(b"z").hexdigest()}"',
    f"sha1 = '{SHA}'",
    f"pip install x --hash=sha256:{hashlib.sha256(b'p').hexdigest()}",
    f'"id": "toolu_{drawn(24, ALNUM, "tool")}"',
    f"requestId: {UUID}",
    f"/nix/store/{drawn(32, LOWER + DIGITS, 'nix')}-python3-3.11.9/bin",
    f"-----BEGIN CERTIFICATE-----\n{B64[:64]}\n{B64[64:128]}\n-----END CERTIFICATE-----\n",
    f"src: url(data:font/woff2;base64,{B64 * 4})",
    "Mozilla/5.0 AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36",
    "bind 0.0.0.0:80, 127.0.0.1, 10.1.200.3, 192.168.1.77, 203.0.113.9, 8.8.8.8; version 1.20.3.4",
    "private_key: PKCS7PrivateKeyTypes,",
    '"splitpasswd", "splitport", "splitquery"',
    "should_pass(\"WinDLL('./x1.dll')\")",
    "RC2_KEY = rc2_key_st",
    'publicKeyToken="1fc8b3b9a1e18e3b"',
    "getUserById2AndParseJson4ConfigFromHttp2Server()",
    "sort_key: user_id2",
    'parser.add_argument("--password", help="the password to use")',
    "run with --token TOKEN and --password PASSWORD",
    "docker run -u 1000:1000 curlimages/curl",
    "0123456789abcdef0123456789abcdef",
    "PuTTY-User-Key-File-3: ssh-rsa",
    "$2b$ is how bcrypt begins",
    "SELECT password FROM users WHERE token = ?",
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


@pytest.mark.parametrize("one", planted(), ids=lambda one: one.name)
def test_every_planted_secret_goes(one: Planted) -> None:
    result = redact(f"before\n\n{one.text}\n\nafter")
    assert not [piece for piece in one.pieces if piece in result]
    assert result.startswith("before\n")
    assert result.endswith("\nafter") or "private" in one.name


def test_what_is_planted_is_over_a_hundred_different_secrets() -> None:
    secrets = [one.secret for one in planted()]
    assert len(set(secrets)) == len(secrets) > 100


def test_without_guessing_an_id_stays_and_a_password_goes() -> None:
    identity = drawn(32, ALNUM, "session")
    assert redact(f"session {identity}") == "session [redacted:high-entropy]"
    assert redact(f"session {identity} password=hunter22!", guess=False) == (
        f"session {identity} password=[redacted:password]"
    )


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


@given(st.text(max_size=300))
def test_no_text_breaks_it_and_placeholders_are_stable(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
