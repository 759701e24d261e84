// Says of each build what its files are: the package itself is of ES modules.
import { writeFileSync } from "node:fs";

for (const [folder, type] of [["esm", "module"], ["cjs", "commonjs"]]) {
  writeFileSync(new URL(`dist/${folder}/package.json`, import.meta.url), `{"type": "${type}"}\n`);
}
