"""From settings to an open engine."""

from __future__ import annotations

from localmem_node.capture.admission import Admission
from localmem_node.capture.ignored import IgnoredFiles
from localmem_node.config import Settings
from localmem_node.encoders import encoder_or_words
from localmem_node.engine import Engine
from localmem_node.seams import Encoder
from localmem_node.store.keys import choose_keystore
from localmem_node.store.opening import open_event_store
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.seams import Clock, Random


def open_engine(
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> Engine:
    """The engine over the store that the settings name, which is created if it is not there.

    Raises ConfigError, KeyUnavailable and StoreError, each saying what to do.
    """
    clock = clock or SystemClock()
    admission = Admission(
        settings.deny_paths,
        settings.deny_projects,
        settings.deny_tools,
        IgnoredFiles(clock) if settings.skip_ignored else None,
    )
    keystore = choose_keystore(passphrase=settings.passphrase, key_file=settings.key_file)
    random = random or SystemRandom()
    store = open_event_store(settings.store_path, keystore, random, size=settings.store_bytes)
    try:
        return Engine(
            store,
            encoder or encoder_or_words(settings.encoder),
            clock,
            admission,
            keystore=keystore,
            random=random,
            eviction=settings.eviction,
        )
    except BaseException:
        store.close()
        raise
