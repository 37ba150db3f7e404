/**
 * Builds the files that browsers load, or verifies that the committed ones are what would be built.
 *
 *     node build.js             writes ../static/django_wsrealtime/
 *     node build.js --verify    compares instead, and checks the sizes
 */

import { readFile, writeFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";
import uglify from "uglify-js";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../static/django_wsrealtime");

/**
 * Properties that nobody outside a bundle sees, and that are no word of the wire, the DOM or the
 * public API: they become one letter.
 */
const INTERNAL =
  /^(phase|due|stateful|wants|head|parts|held|seen|unsaid|repeatable|receive|dropped|opened|tick|pos|renewed|requests|bytes|established|farewell|noticed|wake|suspend|probe|lost|dial|tell|halve|users|by|tag|expire|drop|outbox|sent|first|stop|told|quick|session|run|followed|apply|reload|end|delay|request|socket)$/;

/** Bytes after gzip -9. */
const BUNDLES = [
  { entry: "index.js", name: "wsrealtime", budget: 6144 },
  { entry: "websocket.js", name: "websocket", budget: 2560 },
];

/**
 * Bundle and minify with esbuild, let terser simplify what is left, and uglify choose the names, which
 * it does so that gzip finds more of them alike. Each of the two saves a tenth.
 *
 * @param {{ entry: string, name: string }} bundle
 * @returns {Promise<Record<string, string>>} file name → content
 */
async function make({ entry, name }) {
  const bundled = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    outfile: `${name}.js`,
    bundle: true,
    format: "esm",
    target: "es2022",
    mangleProps: INTERNAL,
    minify: true,
    sourcemap: "external",
    sourcesContent: true,
    legalComments: "none",
    write: false,
  });
  const [map, code] = ["map", "js"].map(
    (end) => bundled.outputFiles.find((file) => file.path.endsWith(end))?.text ?? "",
  );
  const small = await minify(code, {
    module: true,
    ecma: 2020,
    compress: {
      passes: 4,
      ecma: 2020,
      pure_getters: true,
      unsafe_arrows: true,
      keep_fargs: false,
      unsafe: true,
      sequences: false,
      if_return: false,
      lhs_constants: false,
    },
    mangle: true,
    format: { ecma: 2020 },
    sourceMap: { content: map },
  });
  const named = uglify.minify(/** @type {string} */ (small.code), {
    module: true,
    compress: false,
    mangle: true,
    sourceMap: {
      content: /** @type {string} */ (small.map),
      includeSources: true,
      filename: `${name}.js`,
      url: `${name}.js.map`,
    },
  });
  if (named.error) throw named.error;
  const sourceMap = JSON.parse(/** @type {string} */ (named.map));
  sourceMap.sources = sourceMap.sources.map((/** @type {string} */ source) => `client/${source}`);
  return {
    [`${name}.js`]: `${named.code}\n`,
    [`${name}.js.map`]: `${JSON.stringify(sourceMap)}\n`,
    [`${name}.d.ts`]: await readFile(join(here, `types/${name}.d.ts`), "utf8"),
  };
}

const verify = process.argv.includes("--verify");
let faults = 0;
await mkdir(target, { recursive: true });
for (const bundle of BUNDLES) {
  const files = await make(bundle);
  for (const [file, content] of Object.entries(files)) {
    const path = join(target, file);
    if (!verify) await writeFile(path, content);
    else if ((await readFile(path, "utf8").catch(() => "")) !== content) {
      console.error(`${file} is not what the sources build; run \`npm run build\` and commit it.`);
      faults++;
    }
  }
  const size = gzipSync(files[`${bundle.name}.js`], { level: 9 }).length;
  console.log(`${bundle.name}.js: ${size} of ${bundle.budget} bytes gzipped`);
  if (size > bundle.budget) {
    console.error(`${bundle.name}.js is ${size - bundle.budget} bytes over its budget.`);
    faults++;
  }
}
process.exitCode = faults ? 1 : 0;
