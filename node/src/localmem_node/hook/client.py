"""The command that an editor runs for an event: standard input to the daemon, its answer back.

An editor waits for it, many times in a turn. So it imports nothing but modules in C (`os`, `json` and
`socket` take longer than all that it does), waits at most WAIT_S for the daemon, says nothing on
standard error, and always ends with 0. Paths and environment are bytes: nothing is decoded.

    stdin ─▶ daemon answers ─▶ stdout
          ─▶ daemon away, or it did not answer ─▶ spool, if its folder is in memory
                                                  and with a session or a prompt a daemon is started

What daemon and spool are trusted with is what somebody works on. Neither gets it unless the runtime
folder, the socket and the process behind it belong to this user and are closed to others.
"""

# No `from __future__` and no `typing` here: each would be a file more to read.

import _socket
import posix
import select
import sys
import time

BEGINNINGS = (b'"SessionStart"', b'"sessionStart"', b'"UserPromptSubmit"', b'"beforeSubmitPrompt"')

EDITORS = (b"claude-code", b"codex", b"cursor")

WAIT_S = 0.28
"""For the daemon, in all: to connect, to send and to be answered. With the command's own time an
editor then waits 0.3 s longer than for the interpreter alone."""

HUNG_S = 30
"""After a daemon did not answer in time nobody waits for it for so long."""

INPUT_S = 5.0
"""For standard input, in all: 50 MB on a busy machine."""

INPUT_PAUSE_S = 1.0
"""For the next byte of it."""

INPUT_END_S = 0.2
"""The same behind a brace that may be the last one: the end of an input that nobody closes."""

INPUT_BYTES_MAX = 128 * 2**20
ANSWER_BYTES_MAX = 2**20
PIECE_BYTES = 2**20
SPOOL_BYTES_MAX = 4 * 2**20
SPOOL_WAIT_S = 0.05
DESCRIPTORS_MAX = 65_536

_TYPE, _FOLDER, _FILE, _SOCKET = 0o170000, 0o040000, 0o100000, 0o140000
_OURS = posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK  # a pipe is not waited for
_READ = posix.O_RDONLY | _OURS
_APPEND = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | _OURS


def main(home: bytes | None = None) -> None:
    """Serve one event and end the process; `home` is the LOCALMEM_HOME of an installation."""
    try:
        arguments = [argument.encode("utf-8", "surrogateescape") for argument in sys.argv[1:]]
        environment = dict(posix.environ)
        if home is not None:
            environment[b"LOCALMEM_HOME"] = home
        run(arguments, environment)
    except BaseException:  # noqa: S110 - an interrupted or failed hook is a silent one
        pass
    posix._exit(0)  # spares a millisecond of tidying


def run(arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    """Hand standard input to the daemon, or keep it for the next one."""
    if len(arguments) != 1 or arguments[0] not in EDITORS:
        return
    if environment.get(b"LOCALMEM_HOOKS") == b"off":
        return
    editor, body = arguments[0], read_input()
    path = runtime_dir(environment)
    if not body or path is None:
        return
    try:
        folder = open_folder(path)
    except FileNotFoundError:
        folder = make_folder(path)
    if folder is not None:
        answer = ask(folder, editor, body)
        if answer is not None:
            tell(answer)
            return
        keep(folder, editor, body)
    if begins_turn(body):
        start_daemon(folder, environment)


def read_input() -> bytes:
    """Standard input; what there is of it when nobody closes it, nothing when there is too much."""
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    pieces: list[bytes] = []
    size, end, pause = 0, time.monotonic() + INPUT_S, INPUT_PAUSE_S
    while size <= INPUT_BYTES_MAX:
        left = min(pause, end - time.monotonic())
        if left <= 0 or not waiting.poll(1000 * left):
            break
        piece = posix.read(0, PIECE_BYTES)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        pause = INPUT_END_S if piece[-4:].rstrip().endswith(b"}") else INPUT_PAUSE_S
    return b"".join(pieces) if size <= INPUT_BYTES_MAX else b""


def runtime_dir(environment: dict[bytes, bytes]) -> bytes | None:
    """The folder of the daemon's socket, by the rules of `config.load_settings`; None without one."""
    given = environment.get(b"LOCALMEM_HOME")
    if given is not None:
        return _absolute(given, environment) + b"/run" if given else None
    for parent in (environment.get(b"XDG_RUNTIME_DIR"), b"/run/user/%d" % posix.getuid()):
        if parent and _is_folder(parent):
            return parent + b"/localmem"
    state = environment.get(b"XDG_STATE_HOME", b"")
    if not state.startswith(b"/"):
        home = environment.get(b"HOME", b"")
        if not home.startswith(b"/"):
            home = _home_of(None)
        mac = sys.platform == "darwin"
        state = home + (b"/Library/Application Support" if mac else b"/.local/state")
    return state + b"/localmem/run"


def open_folder(path: bytes) -> int | None:
    """A folder that only this user can enter, as a descriptor; None if it is anything else.

    Raises FileNotFoundError.
    """
    try:
        folder = posix.open(path, _READ | posix.O_DIRECTORY)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    return folder if _is_private(posix.fstat(folder), _FOLDER) else None


def make_folder(path: bytes) -> int | None:
    """The runtime folder where no daemon made it yet, if that is in memory: for the spool alone."""
    parent = posix.open(path.rpartition(b"/")[0] or b"/", posix.O_RDONLY | posix.O_CLOEXEC)
    if not is_in_memory(parent):
        return None
    try:  # noqa: SIM105 - contextlib would be a file to read
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    return open_folder(path)


def ask(folder: int, editor: bytes, body: bytes) -> bytes | None:
    """What the daemon answers; None when it is away, or does not answer, or not now."""
    try:
        file = posix.open(b"hook", _READ, dir_fd=folder)
    except OSError:
        return None
    found = posix.fstat(file)
    if not _is_private(found, _FILE):
        return None
    lines = posix.read(file, 4096).split(b"\n")
    if len(lines) < 2 or _is_hung(folder, found.st_mtime):
        return None
    try:
        return exchange(lines[0], lines[1], editor, body)
    except (TimeoutError, BlockingIOError):
        note_hung(folder)
    except OSError:
        pass
    return None


def exchange(path: bytes, token: bytes, editor: bytes, body: bytes) -> bytes | None:
    """The body of the daemon's answer; empty when it refuses, None when it goes away.

    Raises TimeoutError or BlockingIOError when it takes too long, OSError when nobody listens.
    """
    end = time.monotonic() + WAIT_S
    if not _is_private(posix.stat(path, follow_symlinks=False), _SOCKET):
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(WAIT_S)
    connection.connect(path)
    if sys.platform == "linux":
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(peer[4:8], sys.byteorder) != posix.getuid():
            return None
    head = (
        b"POST /v1/hook/%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    ) % (editor, token, len(body))
    if len(body) <= PIECE_BYTES:
        connection.sendall(head + body)
    else:
        connection.sendall(head)
        connection.settimeout(_left(end))
        connection.sendall(body)
    received = b""
    while len(received) <= ANSWER_BYTES_MAX:
        connection.settimeout(_left(end))
        piece = connection.recv(65_536)
        received += piece
        answer = parse_answer(received, not piece)
        if answer is not None or not piece:
            return answer
    return b""


def parse_answer(received: bytes, ended: bool) -> bytes | None:
    """The body of a whole HTTP answer; empty for one that is not 200, None if more must come.

    A daemon that no longer takes the token (401) or is ending (503) did not take the event: None.
    """
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    status = head[9:12]
    if status in (b"401", b"503"):
        return None
    if status != b"200":
        return b""
    _, name, rest = head.lower().partition(b"\r\ncontent-length:")
    if not name:
        return body if ended else None
    size = int(rest.partition(b"\r\n")[0])
    return body[:size] if len(body) >= size else None


def tell(answer: bytes) -> None:
    """Print the answer, if it says anything and somebody listens."""
    answer = answer.strip()
    if answer == b"{}" or sys.stdout is None:  # closed: 1 may be a descriptor of ours
        return
    while answer:
        answer = answer[posix.write(1, answer) :]


def note_hung(folder: int) -> None:
    """Let nobody wait for this daemon for a while."""
    marker = posix.open(b"hook.hung", _APPEND, 0o600, dir_fd=folder)
    posix.utime(marker)


def keep(folder: int, editor: bytes, body: bytes) -> None:
    """Append the event to the spool, if that is in memory and has room; else it is dropped.

    The spool is locked meanwhile, so that its size holds for many writers, and so that a daemon that
    took the file away can wait for the last of them.
    """
    record = b"%s %d %d\n%s\n" % (editor, time.time_ns() // 1_000_000, len(body), body)
    if len(record) > SPOOL_BYTES_MAX or not is_in_memory(folder):
        return
    end = time.monotonic() + SPOOL_WAIT_S
    while time.monotonic() < end:
        spool = posix.open(b"spool", _APPEND, 0o600, dir_fd=folder)
        try:
            if not _is_private(posix.fstat(spool), _FILE):
                return
            if not _lock(spool):
                time.sleep(0.001)
            elif _is_named(spool, b"spool", folder):
                _append(spool, record)
                return
        finally:
            posix.close(spool)


def is_in_memory(folder: int) -> bool:
    """Whether the file system of an open folder has no disk (Linux: proc_pid_mountinfo(5))."""
    device = posix.fstat(folder).st_dev
    number = b"%d:%d" % (posix.major(device), posix.minor(device))
    try:
        mounts = posix.open(b"/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    text = b""
    while piece := posix.read(mounts, PIECE_BYTES):
        text += piece
    for line in text.splitlines():
        fields, _, kind = line.partition(b" - ")
        if fields.split(b" ", 3)[2:3] == [number]:
            return kind.split(b" ", 1)[0] in (b"tmpfs", b"ramfs")
    return False


def begins_turn(body: bytes) -> bool:
    """Whether this JSON is of the start of a session, or of a prompt: of a session that goes on after
    its daemon has ended. A quote inside a text is written otherwise."""
    _, name, rest = body.partition(b'"hook_event_name"')
    colon, value = rest[:64].lstrip()[:1], rest[:64].lstrip()[1:].lstrip()
    return bool(name) and colon == b":" and value.startswith(BEGINNINGS)


def start_daemon(folder: int | None, environment: dict[bytes, bytes]) -> None:
    """Run `localmem up` as nobody's child, unless a daemon starts or runs already.

    Of many that are run at once, its lock lets one start the daemon.
    """
    if not sys.executable or (
        folder is not None
        and (_is_locked(b"launch.lock", folder) or _is_locked(b"daemon.lock", folder))
    ):
        return
    child = posix.fork()
    if child:
        posix.waitpid(child, 0)
        return
    try:
        posix.setsid()
        if posix.fork():
            posix._exit(0)
        null = posix.open(b"/dev/null", posix.O_RDWR)
        for standard in range(3):
            posix.dup2(null, standard)
            posix.set_inheritable(standard, True)
        posix.closerange(3, DESCRIPTORS_MAX)
        command = [sys.executable, "-P", "-m", "localmem_node.cli.main", "up"]
        posix.execve(sys.executable, command, environment)
    finally:
        posix._exit(0)


def _absolute(path: bytes, environment: dict[bytes, bytes]) -> bytes:
    if path.startswith(b"~"):
        user, slash, rest = path[1:].partition(b"/")
        home = environment.get(b"HOME") if not user else None
        home = _home_of(user or None) if home is None else home
        path = home.rstrip(b"/") + slash + rest or b"/"
    return path if path.startswith(b"/") else posix.getcwdb() + b"/" + path


def _home_of(user: bytes | None) -> bytes:
    import pwd

    found = pwd.getpwuid(posix.getuid()) if user is None else pwd.getpwnam(user.decode())
    return found.pw_dir.encode("utf-8", "surrogateescape")


def _is_folder(path: bytes) -> bool:
    try:
        return posix.stat(path).st_mode & _TYPE == _FOLDER
    except OSError:
        return False


def _is_private(found: posix.stat_result, kind: int) -> bool:
    own = found.st_uid == posix.getuid() and found.st_mode & _TYPE == kind
    return own and not found.st_mode & 0o077


def _is_hung(folder: int, since_s: float) -> bool:
    """Whether the daemon that runs since then did not answer lately; a later one is another."""
    try:
        marked_s = posix.stat(b"hook.hung", dir_fd=folder, follow_symlinks=False).st_mtime
    except OSError:
        return False
    return marked_s >= since_s and 0 <= time.time() - marked_s < HUNG_S


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.001)


def _lock(file: int) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _append(spool: int, record: bytes) -> None:
    size = posix.fstat(spool).st_size
    if size + len(record) <= SPOOL_BYTES_MAX and posix.write(spool, record) < len(record):
        posix.truncate(spool, size)  # memory is full: half a record helps nobody


def _is_locked(name: bytes, folder: int) -> bool:
    try:
        file = posix.open(name, _READ, dir_fd=folder)
    except OSError:
        return False
    locked = not _lock(file)
    posix.close(file)
    return locked


def _is_named(file: int, name: bytes, folder: int) -> bool:
    """Whether an open file still has its name, and was not taken away."""
    try:
        found = posix.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    opened = posix.fstat(file)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


if __name__ == "__main__":
    main()
