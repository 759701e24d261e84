// Starting the daemon, once, whoever else tries at the same time: `localmem up` holds the lock.

import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";

import { DaemonError, errorOf, problemOf } from "./errors.js";
import type { Environment } from "./locate.js";

const START_MS = 90_000;
const OUTPUT_BYTES_MAX = 64 * 1024;

/** Return when a daemon answers. Rejects with what keeps it from starting. */
export async function launch(command: readonly string[], environment: Environment): Promise<void> {
  const program = found(command[0] ?? "localmem", environment);
  const [code, output] = await run(program, [...command.slice(1), "up", "--json"], environment);
  if (code === 0) return;
  let answer: unknown = null;
  try {
    answer = JSON.parse(output);
  } catch {
    // Something that is no localmem, or one that could not even say why.
  }
  if (problemOf(answer) !== null) throw errorOf(answer);
  throw new DaemonError(`the daemon did not start: ${program} ended with ${code}`);
}

function run(
  program: string,
  parts: readonly string[],
  environment: Environment,
): Promise<[number | string, string]> {
  return new Promise((settle, refuse) => {
    const child = spawn(program, parts, {
      env: { ...environment },
      stdio: ["ignore", "pipe", "ignore"],
      timeout: START_MS,
      windowsHide: true,
    });
    let output = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (chunk: string) => {
      if (output.length < OUTPUT_BYTES_MAX) output += chunk;
    });
    child.on("error", (error) => {
      refuse(new DaemonError(`the daemon did not start: ${error.message}`));
    });
    child.on("close", (code, signal) => settle([code ?? signal ?? "nothing", output]));
  });
}

/** The program by the PATH of this environment, and never by the current folder. */
function found(name: string, environment: Environment): string {
  if (isAbsolute(name)) return name;
  const endings = process.platform === "win32" ? [".exe", ".cmd"] : [""];
  for (const folder of (environment["PATH"] ?? environment["Path"] ?? "").split(delimiter)) {
    if (!isAbsolute(folder)) continue;
    for (const ending of endings) {
      const path = join(folder, name + ending);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not here.
      }
    }
  }
  throw new DaemonError(`${name} is not on PATH: localmem is not installed here`);
}
