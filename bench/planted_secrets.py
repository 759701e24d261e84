"""Secrets of every kind, drawn from a seed, each in a text as people and tools write it.

No real secret and nothing that looks like one stands here: values are drawn when asked for. The
tests plant them and look for them; `python -m bench redaction` counts who finds them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
UPPER: Final = LOWER.upper()
DIGITS: Final = "0123456789"
HEX: Final = DIGITS + "abcdef"
ALNUM: Final = LOWER + UPPER + DIGITS
URL64: Final = ALNUM + "-_"
BASE64: Final = ALNUM + "+/"


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret in a text. `detectors` names the plugins of detect-secrets whose kind it is;
    `guessed` is one that nothing but its randomness gives away, as an id would be.
    """

    name: str
    secret: str
    text: str
    detectors: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def pieces(self) -> tuple[str, ...]:
        """What must not be found anywhere: the secret; of several lines, each that says something."""
        lines = self.secret.replace("\\n", "\n").split("\n")
        return tuple(line for line in lines if len(line) >= 16) or (self.secret,)


class Drawn:
    """Text that looks random and is the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def bytes(self, size: int) -> bytes:
        """`size` bytes."""
        self._count += 1
        name = f"{self._seed}/{self._count}".encode()
        return hashlib.shake_256(name).digest(size)

    def text(self, size: int, alphabet: str = ALNUM) -> str:
        """`size` characters of an alphabet; of one with digits, one among the first few at least."""
        while True:
            text = "".join(alphabet[byte % len(alphabet)] for byte in self.bytes(size))
            if "0" not in alphabet or any(character.isdigit() for character in text[:12]):
                return text

    def base64(self, size: int) -> str:
        """`size` bytes in base64."""
        return base64.b64encode(self.bytes(size)).decode()

    def password(self) -> str:
        """A password as managers make them."""
        return self.text(5, LOWER) + self.text(1, "!#%^*?~") + self.text(4) + self.text(1, DIGITS)

    def phrase(self, words: int) -> str:
        """A recovery phrase: words of three to eight letters."""
        return " ".join(self.text(3 + self.bytes(1)[0] % 6, LOWER) for _ in range(words))

    def address(self) -> str:
        """An IPv4 address of the internet."""
        return ".".join(
            str(start + byte % 40)
            for start, byte in zip((52, 130, 50, 101), self.bytes(4), strict=True)
        )


def planted(seed: str = "localmem") -> list[Planted]:
    """All of them, over a hundred; other seeds give other values of the same kinds."""
    drawn = Drawn(seed)
    return [*_tokens(drawn), *_carried(drawn), *_assigned(drawn), *_blocks(drawn), *_unnamed(drawn)]


def _tokens(drawn: Drawn) -> Iterator[Planted]:
    text = drawn.text
    made: list[tuple[str, str, str]] = [
        ("aws key id", "AKIA" + text(16, UPPER + DIGITS), "AWSKeyDetector"),
        ("aws temporary key id", "ASIA" + text(16, UPPER + DIGITS), "AWSKeyDetector"),
        ("github classic", "ghp_" + text(36), "GitHubTokenDetector"),
        ("github server", "ghs_" + text(36), "GitHubTokenDetector"),
        ("github fine-grained", "github_pat_" + text(22) + "_" + text(59), ""),
        ("gitlab personal", "glpat-" + text(20, URL64), "GitLabTokenDetector"),
        ("gitlab runner", "GR1348941" + text(20, URL64), "GitLabTokenDetector"),
        ("gitlab pipeline", "glcbt-64_" + text(20, URL64), "GitLabTokenDetector"),
        ("slack bot", "xoxb-" + text(12, DIGITS) + "-" + text(12, DIGITS) + "-" + text(24), "SlackDetector"),
        ("slack app", "xapp-1-" + text(11, UPPER + DIGITS) + "-" + text(13, DIGITS) + "-" + text(64, HEX), ""),
        ("openai project", "sk-proj-" + text(20) + "T3Blbk" + "FJ" + text(20), "OpenAIDetector"),
        ("openai old", "sk-" + text(48), ""),
        ("anthropic", "sk-ant-api03-" + text(93, URL64) + "AA", ""),
        ("groq", "gsk_" + text(52), ""),
        ("xai", "xai-" + text(80), ""),
        ("hugging face", "hf_" + text(34), ""),
        ("stripe secret", "sk_" + "live_" + text(24), "StripeDetector"),
        ("stripe restricted", "rk_" + "live_" + text(24), "StripeDetector"),
        ("square", "sq0csp-" + text(43, URL64), "SquareOAuthDetector"),
        ("google key", "AIza" + text(35, URL64), ""),
        ("google oauth", "ya29." + text(80, URL64), ""),
        ("google client", "GOCSPX-" + text(28, URL64), ""),
        ("npm", "npm_" + text(36), ""),
        ("pypi", "pypi-AgEIcHlwaS5vcmc" + text(120, URL64), "PypiTokenDetector"),
        ("rubygems", "rubygems_" + text(48, HEX), ""),
        ("sendgrid", "SG." + text(22, URL64) + "." + text(43, URL64), "SendGridDetector"),
        ("mailchimp", text(32, HEX) + "-us12", "MailchimpDetector"),
        ("mailgun", "key-" + text(32, HEX), ""),
        ("twilio", "SK" + text(32, HEX), "TwilioKeyDetector"),
        ("discord", "M" + text(23, ALNUM) + "." + text(6) + "." + text(27, URL64), "DiscordBotTokenDetector"),
        ("telegram", text(9, "123456789") + ":AA" + text(33, URL64), "TelegramBotTokenDetector"),
        ("artifactory key", "AKCp" + text(69), "ArtifactoryDetector"),
        ("artifactory password", "AP6" + text(30), "ArtifactoryDetector"),
        ("digitalocean", "dop_v1_" + text(64, HEX), ""),
        ("docker", "dckr_pat_" + text(27, URL64), ""),
        ("vault", "hvs." + text(90, URL64), ""),
        ("terraform", text(14) + ".atlasv1." + text(67, URL64), ""),
        ("shopify", "shpat_" + text(32, HEX), ""),
        ("atlassian", "ATATT3" + text(180, URL64), ""),
        ("linear", "lin_api_" + text(40), ""),
        ("databricks", "dapi" + text(32, HEX), ""),
        ("grafana", "glsa_" + text(32) + "_" + text(8, HEX), ""),
        ("newrelic", "NRAK-" + text(27, UPPER + DIGITS), ""),
        ("postman", "PMAK-" + text(24, HEX) + "-" + text(34, HEX), ""),
        ("figma", "figd_" + text(40, URL64), ""),
        ("azure client", text(3) + "8Q~" + text(34, ALNUM + "_~."), ""),
        ("age", "AGE-SECRET-KEY-1" + text(58, UPPER + DIGITS), ""),
        ("address", drawn.address(), "IPPublicDetector"),
    ]  # fmt: skip
    sentences = (
        "use {} for now",
        'client = connect("{}")',
        "export VALUE={}",
        "- {}\n",
        "deploy@{}",
    )
    for number, (name, secret, detector) in enumerate(made):
        sentence = sentences[4 if name == "address" else number % 4]
        yield Planted(name, secret, sentence.format(secret), (detector,) if detector else ())
    jwt = ".".join(
        _url64(part)
        for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1001"}', drawn.bytes(32))
    )
    yield Planted("jwt", jwt, f"got {jwt} back", ("JwtTokenDetector",))


def _carried(drawn: Drawn) -> Iterator[Planted]:
    def carried(name: str, secret: str, template: str, *detectors: str) -> Planted:
        return Planted(name, secret, template.replace("@@", secret), detectors)

    password, text = drawn.password, drawn.text
    basic = base64.b64encode(f"ada:{password()}".encode()).decode()
    yield carried(
        "postgres url", text(16), "postgres://app:@@@db.internal:5432/app", "BasicAuthDetector"
    )
    yield carried(
        "mongodb url", password(), 'uri: "mongodb+srv://app:@@@cluster0.ab1cd.mongodb.net/?w=1"'
    )
    yield carried("amqp url", password(), "BROKER=amqp://worker:@@@rabbit:5672//")
    yield carried("redis url", text(24), "redis://:@@@cache:6379/0")
    yield carried("smtp url", password(), "smtps://mail:@@@smtp.host.net:465")
    yield carried("git url token", text(40), "git clone https://@@@git.host.net/x.git")
    yield carried(
        "cloudant url", text(64, HEX), "https://acme:@@@acme.cloudant.com", "CloudantDetector"
    )
    yield carried(
        "softlayer url",
        text(64, LOWER + DIGITS),
        "http://api.softlayer.com/soap/v3/@@",
        "SoftlayerDetector",
    )
    yield carried(
        "ado", password(), 'var c = "Server=tcp:db,1433;User ID=sa;Password=@@;Encrypt=True;";'
    )
    yield carried("ado pwd last", text(9, LOWER), "Driver={SQL Server};Server=db;Uid=sa;Pwd=@@;")
    yield carried("jdbc mysql", password(), "jdbc:mysql://db:3306/app?user=app&password=@@")
    yield carried(
        "jdbc sqlserver", password(), "jdbc:sqlserver://db:1433;user=sa;password=@@;encrypt=true"
    )
    yield carried("jdbc oracle", text(12), "jdbc:oracle:thin:scott/@@@//db:1521/ORCL")
    yield carried("libpq", text(10, LOWER), '"host=db port=5432 user=app password=@@ dbname=app"')
    yield carried("netrc", password(), "machine api.host.net login ada password @@")
    yield carried("sql", password(), "CREATE USER ada IDENTIFIED BY '@@';")
    yield carried(
        "azure storage",
        drawn.base64(64),
        "AccountName=a;AccountKey=@@;EndpointSuffix=core",
        "AzureStorageKeyDetector",
    )
    yield carried("curl user", password(), "curl -s -u ada:@@ https://api.host.net/v1")
    yield carried("wget user", text(14), "curl --user 'ada:@@' https://api.host.net")
    yield carried("mysql flag", password(), "mysql -h db -u root -p@@ app < dump.sql")
    yield carried("sshpass", password(), "sshpass -p '@@' ssh root@db")
    yield carried("redis-cli", text(20), "redis-cli -h cache -a @@ ping")
    yield carried("password flag", password(), "deploy --user ada --password @@ --force")
    yield carried("token flag", text(32), "cli login --token @@")
    yield carried("api key flag", text(32, HEX), "cli --api-key=@@ list")
    yield carried("query token", text(40), "GET /v1/things?access_token=@@&page=2 HTTP/1.1")
    yield carried("query key", text(32), "https://maps.host.net/api?v=3&api_key=@@")
    yield carried(
        "query signature",
        text(64, HEX),
        "https://b.s3.host.net/f?X-Amz-Expires=9&X-Amz-Signature=@@",
    )
    yield carried("sas", text(43) + "%3D", "https://acme.blob.host.net/c?sv=2024&sig=@@&se=2027")
    yield carried("bearer", text(40, URL64), "-H 'Authorization: Bearer @@'")
    yield carried("basic", basic, '{"Authorization": "Basic @@"}')
    yield carried("raw authorization", text(36), 'headers["Authorization"] = "@@"')
    yield carried("api key header", text(32), "X-Api-Key: @@")
    yield carried("auth token header", text(32, HEX), "X-Auth-Token: @@")
    yield carried("cookie", text(32), "Cookie: theme=dark; sid=@@; lang=en")
    yield carried("set-cookie", text(40, URL64), "set-cookie: connect.sid=s%3A@@; Path=/; HttpOnly")
    yield carried(
        "slack webhook",
        f"T{text(8, UPPER)}/B{text(8, UPPER)}/{text(24)}",
        "https://hooks.slack.com/services/@@",
        "SlackDetector",
    )
    yield carried(
        "discord webhook", text(68, URL64), "https://discord.com/api/webhooks/123456789012345678/@@"
    )


def _assigned(drawn: Drawn) -> Iterator[Planted]:
    def assigned(name: str, secret: str, template: str, *detectors: str) -> Planted:
        return Planted(name, secret, template.replace("@@", secret), detectors)

    password, text = drawn.password, drawn.text
    yield assigned("env password", password(), "DEBUG=1\nDB_PASSWORD=@@\nPORT=80")
    yield assigned("env word", text(9, LOWER), "REDIS_PASSWORD=@@")
    yield assigned("env quoted", password(), 'export SMTP_PASS="@@"')
    yield assigned("env secret", text(32), "SESSION_SECRET=@@")
    yield assigned("docker env", password(), "docker run -e POSTGRES_PASSWORD=@@ postgres")
    yield assigned("yaml", password(), "db:\n  user: app\n  password: @@\n")
    yield assigned("yaml key", text(40), "stripe:\n  apiKey: @@\n")
    yield assigned("json", password(), '{"user": "app", "dbPassword": "@@"}')
    yield assigned("json in json", text(24), '{"body": "{\\"client_secret\\": \\"@@\\"}"}')
    yield assigned("toml", text(32), '[api]\nauth_token = "@@"\n')
    yield assigned("python", password(), 'password = "@@"', "KeywordDetector")
    yield assigned("python annotated", text(40), 'API_TOKEN: Final = "@@"')
    yield assigned("typescript", text(32), "const clientSecret: string = '@@';")
    yield assigned("go", text(32, HEX), 'secretKey := "@@"')
    yield assigned("ruby", password(), ":password => '@@',")
    yield assigned("php", password(), "'db_password' => '@@',")
    yield assigned("java properties", password(), "spring.datasource.password=@@")
    yield assigned("c array", text(16), 'static char password[] = "@@";')
    yield assigned("setter", text(20), 'config.setPassword("@@");')
    yield assigned("argument pair", text(32), 'System.setProperty("api_key", "@@");')
    yield assigned("xml element", password(), "<password>@@</password>")
    yield assigned("kubernetes env", password(), "- name: DB_PASSWORD\n  value: @@\n")
    yield assigned(
        "kubernetes secret", base64.b64encode(password().encode()).decode(), "data:\n  password: @@"
    )
    yield assigned("spanish", password(), 'contraseña = "@@"')
    yield assigned("aws secret", text(40, BASE64), 'aws_secret_access_key = "@@"', "AWSKeyDetector")
    yield assigned("ibm iam", text(44, URL64), 'ibm_cloud_api_key = "@@"', "IbmCloudIamDetector")
    yield assigned(
        "ibm cos", text(48, HEX), 'cos_hmac_secret_access_key: "@@"', "IbmCosHmacDetector"
    )
    yield assigned("cloudant", text(24, LOWER), 'cloudant_password = "@@"', "CloudantDetector")
    yield assigned(
        "softlayer", text(64, LOWER + DIGITS), 'softlayer_api_key = "@@"', "SoftlayerDetector"
    )
    yield assigned("npmrc", text(36, HEX), "//registry.host.net/:_authToken=@@", "NpmDetector")
    yield assigned("npmrc auth", drawn.base64(24), "_auth=@@")
    yield assigned("wireguard", drawn.base64(32), "PrivateKey = @@")
    yield assigned("recovery phrase", drawn.phrase(24), 'recovery_phrase = "@@"')
    yield assigned("password hash", text(53, ALNUM + "./"), "ada:$2b$12$@@")


def _blocks(drawn: Drawn) -> Iterator[Planted]:
    def lines(count: int) -> str:
        return "\n".join(drawn.text(64, BASE64) for _ in range(count)) + "\n" + drawn.text(23) + "="

    dashes = "-" * 5
    for name in ("RSA ", "EC ", "DSA ", "", "ENCRYPTED ", "OPENSSH "):
        body = lines(4)
        block = f"{dashes}BEGIN {name}PRIVATE KEY{dashes}\n{body}\n{dashes}END {name}PRIVATE KEY{dashes}"
        found = name not in ("ENCRYPTED ",)
        yield Planted(
            f"pem {name.strip() or 'pkcs8'}",
            body,
            f"cat <<EOF\n{block}\nEOF",
            ("PrivateKeyDetector",) if found else (),
        )
    body = lines(3)
    header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + drawn.text(32, DIGITS + "ABCDEF")
    yield Planted(
        "pem with headers, cut off",
        body,
        f"{dashes}BEGIN RSA PRIVATE KEY{dashes}\n{header}\n\n{body}",
    )
    body = lines(3)
    yield Planted("pem without its start", body, f"{body}\n{dashes}END RSA PRIVATE KEY{dashes}\n")
    body = lines(3).replace("\n", "\\n")
    yield Planted(
        "pem in json",
        body,
        f'"private_key": "{dashes}BEGIN PRIVATE KEY{dashes}\\n{body}\\n{dashes}END PRIVATE KEY{dashes}\\n"',
    )
    body = lines(5)
    yield Planted(
        "pgp",
        body,
        f"{dashes}BEGIN PGP PRIVATE KEY BLOCK{dashes}\nVersion: 2\n\n{body}\n{dashes}END PGP PRIVATE KEY BLOCK{dashes}",
        ("PrivateKeyDetector",),
    )
    body = lines(3)
    yield Planted(
        "ssh2",
        body,
        f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n{body}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        ("PrivateKeyDetector",),
    )
    body = lines(1)
    yield Planted(
        "putty",
        body,
        f"PuTTY-User-Key-File-2: ssh-ed25519\nEncryption: none\nPrivate-Lines: 2\n{body}\nPrivate-MAC: {drawn.text(40, HEX)}",
        ("PrivateKeyDetector",),
    )
    inner = base64.b64encode(f"{dashes}BEGIN RSA PRIVATE KEY{dashes}\n{lines(2)}".encode()).decode()
    yield Planted("pem in base64", inner, f"client-key-data: {inner}")
    member = drawn.text(43, URL64)
    yield Planted("jwk", member, f'{{"kty": "OKP", "crv": "Ed25519", "d": "{member}"}}')


def _unnamed(drawn: Drawn) -> Iterator[Planted]:
    text = drawn.text
    made: list[tuple[str, str, str, str]] = [
        ("quoted base64", drawn.base64(32), 'connect("@@")', "Base64HighEntropyString"),
        ("quoted url base64", text(43, URL64), "x = '@@'", "Base64HighEntropyString"),
        ("quoted base62", text(24), 'LICENCE = "@@"', ""),
        ("quoted hex", text(64, HEX), 'x = "@@"', "HexHighEntropyString"),
        ("quoted short hex", text(32, HEX), 'admin("@@")', "HexHighEntropyString"),
        ("assigned hex", text(64, HEX), "ACME_VALUE=@@", ""),
        ("bare base64", text(40, BASE64), "paste @@ there", ""),
        ("bare url base64", text(43, URL64), "it said @@", ""),
    ]  # fmt: skip
    for name, secret, template, detector in made:
        detectors = (detector,) if detector else ()
        yield Planted(name, secret, template.replace("@@", secret), detectors, guessed=True)
    secret = text(12, LOWER)
    yield Planted("private span", secret, f"a <private>{secret} {secret}</private> b")
    secret = text(12, LOWER)
    yield Planted("private span left open", secret, f"a <PRIVATE>\n{secret}")


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


Finder = Callable[[str], str]
"""From a text to the text without what was found in it."""


def missed(find: Finder, seed: str = "localmem") -> list[Planted]:
    """The planted secrets of which `find` leaves any piece."""
    return [one for one in planted(seed) if any(piece in find(one.text) for piece in one.pieces)]
