"""Settings of the portal: environment variables only, each listed in the README's settings table (a test compares)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONE, SELF

from llmcompare.env import ConfigurationError, env_bool, env_field_keys, env_int, env_list, env_secret, env_str

BASE_DIR = Path(__file__).resolve().parent.parent

# Everything that the portal writes is below this folder: database, broker, secret key, converted weights, artifacts.
DATA_DIR = Path(env_str("LLMCOMPARE_DATA") or BASE_DIR / "data").resolve()
DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)


def _secret_key() -> str:
    """From the environment, else from a file made once, readable by its owner only."""
    given = env_secret("LLMCOMPARE_SECRET_KEY")
    if given:
        return given
    path = DATA_DIR / "secret_key"
    try:
        with open(path, "x", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    return path.read_text().strip()


SECRET_KEY = _secret_key()
# What encrypts API keys of endpoints: newest first; without any, a file in the data folder (llmcompare/endpoints/crypto.py).
FIELD_KEYS = env_field_keys("LLMCOMPARE_FIELD_KEYS")
DEBUG = env_bool("LLMCOMPARE_DEBUG")

# The address under which people open the portal; https switches the secure-cookie settings on.
PUBLIC_URL = env_str("LLMCOMPARE_URL", "http://127.0.0.1:8000").rstrip("/")
_url = urlsplit(PUBLIC_URL)
if _url.scheme not in ("http", "https") or not _url.hostname:
    raise ConfigurationError(f"LLMCOMPARE_URL must look like https://host, not {PUBLIC_URL!r}.")
HTTPS = _url.scheme == "https"
ALLOWED_HOSTS = [_url.hostname, "127.0.0.1", "localhost", "[::1]", *env_list("LLMCOMPARE_ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "csp",
    "axes",
    "hardware",
    "llmcompare.common",
    "llmcompare.accounts",
    "llmcompare.catalog",
    "llmcompare.endpoints",
    "llmcompare.cloud",
    "llmcompare.runs",
    "llmcompare.history",
    "llmcompare.explore",
    "llmcompare.sharing",
    "llmcompare.api",
]

MIDDLEWARE = [
    "llmcompare.common.middleware.refuse_unusable",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Pages and exports are texts of hundreds of kB. Django pads what it compresses by a random length, against BREACH.
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "llmcompare.accounts.middleware.speak_the_users_language",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "llmcompare.urls"
WSGI_APPLICATION = "llmcompare.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "llmcompare.common.context.portal",
            ],
        },
    },
]

# SQLite by default: WAL and IMMEDIATE together, or writers meet "database is locked".
_database_url = env_secret("DATABASE_URL")
if _database_url:
    DATABASES = {"default": dj_database_url.parse(_database_url, conn_max_age=60, conn_health_checks=True)}
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATA_DIR / "db.sqlite3")}}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "accounts:login"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "accounts/locked.html"
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "llmcompare.common.clients.client_address"

# E-mails to those who asked for notices. Without a host none is sent.
EMAIL_HOST = env_str("LLMCOMPARE_MAIL_HOST")
MAIL_SECURITY = env_str("LLMCOMPARE_MAIL_SECURITY", "starttls").lower()
if MAIL_SECURITY not in ("none", "starttls", "tls"):
    raise ConfigurationError(f"LLMCOMPARE_MAIL_SECURITY must be none, starttls or tls, not {MAIL_SECURITY!r}.")
EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL_SECURITY == "starttls", MAIL_SECURITY == "tls"
EMAIL_PORT = env_int("LLMCOMPARE_MAIL_PORT", {"none": 25, "starttls": 587, "tls": 465}[MAIL_SECURITY], low=1)
EMAIL_HOST_USER = env_str("LLMCOMPARE_MAIL_USER")
EMAIL_HOST_PASSWORD = env_secret("LLMCOMPARE_MAIL_PASSWORD")
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env_str("LLMCOMPARE_MAIL_FROM") or f"llmcompare@{_url.hostname}"

# Pages are in the language of the account, else of the cookie, else of the browser; API and exports are in English.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
USE_I18N = True
# Numbers look the same in every language.
FORMAT_MODULE_PATH = ["llmcompare.common.formats"]
USE_THOUSAND_SEPARATOR = False
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_MAX_AGE = 31_536_000 if not DEBUG else 0

# Strict: nothing from another host, no inline script, no inline style, no eval.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
DEFAULT_EXCEPTION_REPORTER_FILTER = "llmcompare.common.reports.AlwaysSafe"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
if HTTPS:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = env_bool("LLMCOMPARE_SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
BEHIND_PROXY = env_bool("LLMCOMPARE_BEHIND_PROXY")
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# The broker is a doorbell (docs/architecture.md); a folder is enough for one machine.
BROKER_URL = env_secret("BROKER_URL") or "filesystem://"
BROKER_DIR = DATA_DIR / "broker"

# Google Cloud: a folder in which the operator puts keys of service accounts. The other two are for tests against a stand-in.
GOOGLE_KEYS_DIR = env_str("LLMCOMPARE_GOOGLE_KEYS")
VERTEX_BASE = env_str("LLMCOMPARE_VERTEX_BASE")
CLOUD_TEST_TOKENS = env_bool("LLMCOMPARE_CLOUD_TEST_TOKENS")
# What may be deployed where no administrator entered a cap, and what every deployment gets.
CLOUD_WORKER = env_bool("LLMCOMPARE_CLOUD_WORKER", True)
CLOUD_SWEEP_S = env_int("LLMCOMPARE_CLOUD_SWEEP_S", 300, low=1)
CLOUD_MAX_DEPLOYMENTS = env_int("LLMCOMPARE_CLOUD_MAX_DEPLOYMENTS", 2)
CLOUD_MAX_USD_PER_HOUR = env_int("LLMCOMPARE_CLOUD_MAX_USD_PER_HOUR", 5)
CLOUD_MAX_LEASE_HOURS = env_int("LLMCOMPARE_CLOUD_MAX_LEASE_HOURS", 24, low=1)
CLOUD_IDLE_MINUTES = env_int("LLMCOMPARE_CLOUD_IDLE_MINUTES", 30, low=5)
CLOUD_IMAGE = env_str("LLMCOMPARE_CLOUD_IMAGE")

RUN_LEASE_S = env_int("LLMCOMPARE_LEASE_S", 60, low=2)
RUN_SWEEP_S = env_int("LLMCOMPARE_SWEEP_S", 5, low=1)
MAX_ACTIVE_RUNS_PER_USER = env_int("LLMCOMPARE_MAX_ACTIVE_RUNS", 20, low=1)
MAX_RUN_SECONDS = env_int("LLMCOMPARE_MAX_RUN_SECONDS", 1800, low=10)
CONFIG_UPLOAD_BYTES = 1_000_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 5_000_000
MAX_REQUEST_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["llmcompare.api.parsers.StrictJSONParser"],
    "EXCEPTION_HANDLER": "llmcompare.api.errors.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "llmcompare.api.pagination.Pages",
    # Without a number the header X-Forwarded-For is believed, and whoever makes one up has no limit.
    "NUM_PROXIES": 1 if BEHIND_PROXY else 0,
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {"anon": "60/min", "user": "600/min", "login": "10/min"},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "llmcompare API",
    "DESCRIPTION": "Models, hardware and runs: launch analyses, run inference, read and export results.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    # The address of a shared link is a key: it must not be found in a log.
    "filters": {"hide_tokens": {"()": "llmcompare.sharing.logs.HideTokens"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["hide_tokens"]}},
    "root": {"handlers": ["console"], "level": env_str("LLMCOMPARE_LOG_LEVEL", "INFO")},
    "loggers": {
        "axes.apps": {"level": "WARNING"},
        # A line for every request to a server of models: thousands in a load.
        "httpx": {"level": "WARNING"},
        "django.server": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
