// Where the daemon is found: the runtime folder, by the rules of the node's own settings, and the
// file daemon.json in it, which only its owner may read.

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

import { ConfigError } from "./errors.js";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A daemon that runs, or ran when the machine went down. */
export interface DaemonState {
  readonly pid: number;
  readonly port: number;
  readonly socket: string;
  readonly token: string;
}

const STATE_BYTES_MAX = 64 * 1024;

/** The folder of daemon.json. Throws ConfigError. */
export function runtimeFolder(environment: Environment): string {
  const home = environment["LOCALMEM_HOME"];
  if (home !== undefined) {
    if (home === "" || home.includes("\0")) {
      throw new ConfigError("LOCALMEM_HOME: is empty; name a folder, or unset it", "config");
    }
    return join(resolve(expanded(home, environment)), "run");
  }
  if (process.platform !== "win32") {
    for (const parent of [environment["XDG_RUNTIME_DIR"], `/run/user/${process.getuid?.()}`]) {
      if (parent && isFolder(parent)) return join(parent, "localmem");
    }
  }
  return join(stateFolder(environment), "run");
}

/** What daemon.json says; null without one. Throws ConfigError for one that others can read. */
export function readState(folder: string): DaemonState | null {
  const path = join(folder, "daemon.json");
  const text = readPrivate(path);
  if (text === null) return null;
  try {
    const found = JSON.parse(text) as Partial<DaemonState>;
    const whole = typeof found.pid === "number" && typeof found.port === "number";
    if (!whole || typeof found.socket !== "string" || typeof found.token !== "string") return null;
    return found as DaemonState;
  } catch {
    return null;
  }
}

/** Whether both are the same daemon. */
export function isSame(one: DaemonState | null, other: DaemonState | null): boolean {
  return one?.token === other?.token && one?.socket === other?.socket && one?.port === other?.port;
}

function readPrivate(path: string): string | null {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new ConfigError(`${path}: cannot be read: ${(error as Error).message}`, "config");
  }
  try {
    const found = fstatSync(file);
    const own = process.getuid?.();
    if (own !== undefined && ((found.uid !== own && found.uid !== 0) || found.mode & 0o077)) {
      throw new ConfigError(`${path} is open to others; run: chmod 600 ${path}`, "config");
    }
    const data = Buffer.alloc(STATE_BYTES_MAX + 1);
    const size = readSync(file, data, 0, data.length, 0);
    if (size > STATE_BYTES_MAX) throw new ConfigError(`${path} is too large`, "config");
    return data.toString("utf8", 0, size);
  } finally {
    closeSync(file);
  }
}

function stateFolder(environment: Environment): string {
  const home = environment["HOME"] || homedir();
  if (process.platform === "win32") {
    const local = environment["LOCALAPPDATA"] || join(home, "AppData", "Local");
    return join(local, "localmem", "localmem");
  }
  const named = environment["XDG_STATE_HOME"];
  if (named && isAbsolute(named)) return join(named, "localmem");
  if (process.platform === "darwin") return join(home, "Library", "Application Support", "localmem");
  return join(home, ".local", "state", "localmem");
}

function expanded(path: string, environment: Environment): string {
  if (path !== "~" && !path.startsWith("~/")) return path;
  return join(environment["HOME"] || homedir(), path.slice(1));
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
