"""The real clients for every test here."""

from support.clients import client_home as client_home
from support.clients import clients as clients
