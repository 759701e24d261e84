"""Formats of secrets: what its own shape, or what it is carried in, gives away.

Every pattern is linear: what is unbounded is possessive and follows a prefix that cannot begin
inside its own match, so nothing is tried twice. Formats are those that the issuers document, and
those that detect-secrets and the GitHub secret scanner look for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from localmem_node.capture.randomness import has_digit, has_letter, looks_chosen, looks_random

START: Final = r"(?<![A-Za-z0-9_-])"

Judge = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Format:
    """A secret that its shape gives away. Group 1, if there is one, is all that is secret.

    Text without any of the `hints` (lower case) cannot match, and finding that out is cheap.
    `judge` looks at the secret where the shape alone is not proof.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Judge | None = None


def _token(kind: str, hints: str, pattern: str, judge: Judge | None = None) -> Format:
    return Format(kind, tuple(hints.split()), re.compile(START + pattern), judge)


def _field(kind: str, hints: str, pattern: str, judge: Judge | None = None) -> Format:
    return Format(kind, tuple(hints.split()), re.compile(pattern, re.IGNORECASE), judge)


def is_public_address(text: str) -> bool:
    """Whether an IPv4 address names a host of the internet, and is no version or example."""
    parts = [int(part) for part in text.split(".")]
    if max(parts) > 255 or max(parts) < 32 or len(set(parts[1:])) == 1:
        return False
    first, second = parts[:2]
    return not (
        first in (0, 10, 127)
        or first >= 224
        or (first == 100 and 64 <= second < 128)
        or (first == 169 and second == 254)
        or (first == 172 and 16 <= second < 32)
        or (first == 192 and second in (0, 168))
        or (first == 198 and second in (18, 19))
        or tuple(parts[:3]) in ((198, 51, 100), (203, 0, 113))
    )


CARRIERS: Final = (
    _field("url-password", "://", r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,31}://[^\s/:@\"'<>\[]{0,256}:([^\s/\"'<>]{1,256})@(?=[\w\[])"),
    _field("url-token", "://", r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,31}://([a-z0-9_-]{20,256})@(?=\w)", looks_random),
    _field("url-token", "? &", r"[?&](?:(?:access|refresh|id|auth|session|api|oauth)_?token|token|sig|signature|x-(?:amz|goog)-(?:signature|security-token|credential)|api_?key|auth|key|code|secret|client_?secret|session(?:_?id)?|sid|jwt)=([a-z0-9%+/=_.~-]{12,4096}+)", looks_random),
    _field("password", "pass= password= passwd= pwd=", r"[?&;](?:password|passwd|pass|pwd)=([^\s&;\"'`<>#,)]{4,256}+)", has_letter),
    _field("password", "password= pwd=", r"(?<![a-z0-9_.])(?:password|pwd)[ ]?=[ ]?([^;\"'\s]{1,256}+);(?=[ ]?[a-z][a-z ]{1,30}=|[\"']|$)", has_letter),
    _field("password", "password", r"(?<![a-z0-9_])(?:host|hostaddr|port|user|dbname|sslmode)=[^\s,;\"'()]{1,128}[ ]password=([^\s,;\"'()]{1,256}+)"),
    _field("password", "jdbc:oracle", r"jdbc:oracle:[a-z]{1,8}:[^\s/@\"']{1,64}/([^\s/@\"']{1,128}+)@"),
    _field("password", "identified password", r"\b(?:identified[ ]by|(?:encrypted|with)[ ]password|password[ ]for[ ][^\s']{1,64}[ ]is)[ ]'([^'\n]{4,256}+)'"),
    _field("password", "login", r"\blogin[ \t]{1,8}[^\s\"']{1,128}[ \t\r\n]{1,8}password[ \t]{1,8}([^\s\"']{1,256}+)"),
    _field("password", "curl wget http --user --proxy-user", r"(?<![^\s\"'])(?:-u|--(?:proxy-)?user)[ =]{0,2}[\"']?[^\s:\"'=/]{1,128}:([^\s\"':@/]{1,256}+)", has_letter),
    _field("password", "mysql mariadb mysqldump", r"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\n|;]{0,256}?[ ]-p[\"']?([^\s\"']{3,128}+)", looks_chosen),
    _field("password", "sshpass", r"\bsshpass[ ]-p[ ]?[\"']?([^\s\"']{1,128}+)"),
    _field("password", "redis-cli", r"\bredis-cli\b[^\n|;]{0,256}?[ ]-a[ ][\"']?([^\s\"']{3,128}+)"),
    _field("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows)/([a-z0-9_/]{20,}+)"),
    _field("webhook", "/webhooks/", r"discord(?:app)?\.com/api/webhooks/[0-9]{10,24}/([a-z0-9_-]{40,}+)"),
    _field("webhook", "webhook.office.com", r"webhook\.office\.com/webhookb2/([a-z0-9@/-]{40,}+)"),
    _field("softlayer-key", "api.softlayer.com", r"api\.softlayer\.com/soap/v3(?:\.1)?/([a-z0-9]{64})"),
    _field("authorization", "authorization", r"\bauthorization[\"']?\]?[ \t]{0,8}[:=,][ \t]{0,8}[\"'`]?(?:bearer|basic|token|digest|negotiate|apikey|api-key)[ \t]{1,8}([a-z0-9._~+/=-]{8,}+)"),
    _field("authorization", "authorization", r"\bauthorization[\"']?\]?[ \t]{0,8}[:=,][ \t]{0,8}[\"'`]?([a-z0-9._~+/=-]{16,}+)", looks_random),
    _field("bearer", "bearer", r"\bbearer[ \t]{1,8}([a-z0-9._~+/=-]{20,}+)", looks_random),
    _field("private-key", '"kty"', r"\"(?:d|p|q|dp|dq|qi|k)\"[ \t]{0,8}:[ \t\r\n]{0,8}\"([a-z0-9_-]{16,}+)\""),
    _field("recovery-phrase", "mnemonic phrase", r"(?:mnemonic|(?:seed|recovery|backup)[_ -]?phrase)[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?((?:[a-z]{3,8}[ ]){11,23}[a-z]{3,8})"),
    _field("password-hash", "$2", r"\$2[abxy]?\$[0-9]{2}\$([./a-z0-9]{53})"),
    _field("password-hash", "$1$ $5$ $6$ $y$ $apr1$", r"\$(?:1|5|6|y|apr1)\$(?:rounds=[0-9]{1,9}\$)?(?:[./a-z0-9]{1,16}\$){1,2}([./a-z0-9]{22,86})"),
    _field("password-hash", "$argon2", r"\$argon2(?:id|i|d)\$v=[0-9]{1,3}\$[a-z0-9=,]{1,64}\$[a-z0-9+/]{8,64}\$([a-z0-9+/]{16,128})"),
    _field("azure-key", "accountkey= sharedaccesskey=", r"\b(?:AccountKey|SharedAccessKey)=([a-z0-9+/]{40,}+={0,2})"),
    _field("azure-key", "sig=", r"[?&]sig=([a-z0-9%+/]{40,}+(?:=|%3d){0,2})"),
)  # fmt: skip
"""Secrets known by what carries them: URLs, headers, connection strings, commands."""

TOKENS: Final = (
    _token("jwt", "eyj", r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_.-]*+"),
    _token("private-key", "mi", r"MI[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]{1,3}IBADANBgkqhkiG9w0BAQEFAASC|[A-Za-z0-9+/]{1,3}IBAAKCA|[A-Za-z0-9+/]{0,3}AgEAMBMGByqGSM49)[A-Za-z0-9+/\\\n=]{40,}+"),
    _token("private-key", "ls0tls1crudjti", r"LS0tLS1CRUdJTi(?:BSU0Eg|BFQyBQ|BQUklW|BPUEVO|BFTkNS|BEU0Eg)[A-Za-z0-9+/=]{40,}+"),
    _token("aws-key", "akia asia abia acca aroa aida a3t", r"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9_]{30,}+"),
    _token("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}+"),
    _token("gitlab-token", "gl", r"gl(?:pat|ptt|oas|rt|cbt|dt|ft|soat|agent|imt|ffct)-[A-Za-z0-9_.-]{20,}+"),
    _token("gitlab-token", "gr1348941", r"GR1348941[A-Za-z0-9_-]{20,}+"),
    _token("slack-token", "xox", r"xox[abceoprs]-[A-Za-z0-9-]{10,}+"),
    _token("slack-token", "xapp-", r"xapp-[0-9]-[A-Za-z0-9-]{10,}+"),
    _token("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,}+"),
    _token("api-key", "sk-", r"sk-(?:proj|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{20,}+", looks_random),
    _token("api-key", "sk-", r"sk-[A-Za-z0-9]{20,}+(?![_-])", looks_random),
    _token("api-key", "t3blbkfj", r"sk-[A-Za-z0-9_-]{20,256}?T3BlbkFJ[A-Za-z0-9_-]{20,}+"),
    _token("api-key", "gsk_ xai- r8_ pplx- nvapi- fw_ ntn_", r"(?:gsk_|xai-|r8_|pplx-|nvapi-|fw_|ntn_)[A-Za-z0-9_-]{20,}+", looks_random),
    _token("stripe-key", "k_live_ k_test_", r"[spr]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _token("stripe-key", "whsec_", r"whsec_[A-Za-z0-9+/=]{32,}+"),
    _token("square-token", "sq0", r"sq0(?:csp|atp|idp)-[A-Za-z0-9_-]{22,}+"),
    _token("google-key", "aiza", r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _token("google-token", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}+"),
    _token("google-secret", "gocspx-", r"GOCSPX-[A-Za-z0-9_-]{24,}+"),
    _token("facebook-token", "eaace", r"EAACE[A-Za-z0-9]{30,}+"),
    _token("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _token("pypi-token", "pypi-age", r"pypi-AgE[A-Za-z0-9_-]{50,}+"),
    _token("rubygems-key", "rubygems_", r"rubygems_[a-f0-9]{48}"),
    _token("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,}+"),
    _token("sendgrid-key", "sg.", r"SG\.[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+"),
    _token("mailchimp-key", "-us", r"[0-9a-z]{32}-us[0-9]{1,2}(?![0-9A-Za-z])", has_digit),
    _token("mailgun-key", "key-", r"key-[0-9a-f]{32}(?![0-9a-f])"),
    _token("twilio-key", "ac sk", r"(?:AC|SK)[a-z0-9]{32}(?![A-Za-z0-9])", has_digit),
    _token("discord-token", ".", r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}+", looks_random),
    _token("artifactory-key", "akc", r"(?<![/+])AKC[A-Za-z0-9]{10,}+(?![/+])", looks_random),
    _token("artifactory-key", "ap", r"(?<![/+])AP[0-9A-F][A-Za-z0-9]{12,}+(?![/+_.-])", looks_random),
    _token("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[a-f0-9]{64}(?![a-f0-9])"),
    _token("docker-token", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[A-Za-z0-9_-]{20,}+"),
    _token("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,}+"),
    _token("terraform-token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,}+"),
    _token("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}(?![A-Za-z0-9])"),
    _token("atlassian-token", "atatt3", r"ATATT3[A-Za-z0-9_=-]{60,}+"),
    _token("linear-key", "lin_", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}+"),
    _token("telegram-token", ":aa", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])"),
    _token("databricks-token", "dapi", r"dapi[a-f0-9]{32}(?:-[0-9])?(?![a-f0-9])"),
    _token("grafana-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9_+/=]{32,}+"),
    _token("sentry-token", "sntry", r"sntry[su]_[A-Za-z0-9_=+/-]{40,}+"),
    _token("sonar-token", "squ_ sqp_ sqa_", r"sq[upa]_[a-f0-9]{40}(?![a-f0-9])"),
    _token("newrelic-key", "nrak- nrii- nrra-", r"NR(?:AK|II|RA)-[A-Za-z0-9_-]{24,}+"),
    _token("postman-key", "pmak-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _token("figma-token", "figd_", r"figd_[A-Za-z0-9_-]{36,}+"),
    _token("doppler-token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}+"),
    _token("pulumi-token", "pul-", r"pul-[a-f0-9]{40}(?![a-f0-9])"),
    _token("tailscale-key", "tskey-", r"tskey-[a-z]{2,12}-[A-Za-z0-9]{8,24}-?[A-Za-z0-9]{0,}+"),
    _token("supabase-key", "sbp_ sb_secret_", r"sb(?:p|_secret)_[A-Za-z0-9_-]{20,}+"),
    _token("netlify-token", "nfp_", r"nfp_[A-Za-z0-9]{36,}+"),
    _token("cratesio-token", "cio", r"cio[A-Za-z0-9]{32}(?![A-Za-z0-9_-])", looks_random),
    _token("alibaba-key", "ltai", r"LTAI[A-Za-z0-9]{12,20}(?![A-Za-z0-9])", looks_random),
    _token("azure-secret", "q~", r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])"),
    _token("onepassword-token", "ops_ey", r"ops_eyJ[A-Za-z0-9_-]{50,}+"),
    _token("age-key", "age-secret-key-", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _token("ip-address", ".", r"(?<!\.)(?<![A-Za-z]/)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.\w|/[0-9])", is_public_address),
)  # fmt: skip
"""Secrets known by their own form, wherever they stand."""

FORMATS: Final = (*TOKENS, *CARRIERS)
"""All of them, in the order in which they are looked for."""
