// The command `qemu-kvm` and the thread of its devices, each as one script, with all of the packages below it inside: only
// of scripts does V8 keep what it compiled (src/script/load-script.ts of qemu-vmm says how).
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from './lib/paths.mjs'
import { bundleOptions } from './lib/bundle-options.mjs'
import { replaceFiles } from './lib/replace-files.mjs'

const folder = join(root, 'packages/qemu-vmm')
const outdir = join(folder, 'dist/scripts')

/** What is loaded first, small. */
const starters = { 'qemu-kvm': 'script/qemu-kvm.ts', worker: 'script/worker.ts' }
/** What they load. */
const command = { 'qemu-kvm': 'cli/main.ts' }
const devices = { worker: 'machine/host/worker.ts' }
/** The script is a function of what a module has around it. */
const head = '(function(require,module,exports,__urlOf){'
const tail = '})'

/** A script has no URL of its own: modules are told where their package's would be. */
const urls = {
  name: 'urls',
  /** @param {import('esbuild').PluginBuild} build */
  setup({ onLoad }) {
    onLoad({ filter: /[/](src|bundle)[/].*[.][jt]s$/ }, ({ path }) => {
      const name = /[/]packages[/]([^/]+)[/]/.exec(path)?.[1] ?? ''
      const contents = readFileSync(path, 'utf8')
      return {
        contents: contents.replaceAll('import.meta.url', `__urlOf(${JSON.stringify(name)})`),
        loader: path.endsWith('.ts') ? 'ts' : 'js',
      }
    })
  },
}

/** The command's machine is in the thread of its devices: its own script need not hold all devices once more. */
const withoutMachine = {
  name: 'without-machine',
  /** @param {import('esbuild').PluginBuild} build */
  setup({ onLoad }) {
    onLoad({ filter: /[/]machine[/]machine[.]ts$/ }, () => ({
      contents: `throw new Error("the command's machine is in a thread of its own")`,
    }))
  },
}

/**
 * @param {Readonly<Record<string, string>>} entries
 * @param {string} banner
 * @param {string} footer
 * @param {import('esbuild').Plugin[]} plugins
 */
async function joinModules(entries, banner, footer, plugins = [urls]) {
  const { outputFiles } = await build({
    ...bundleOptions(folder, entries),
    outdir,
    format: 'cjs',
    // Scripts have no loader of modules, but that of an experimental interface; they require what they did not join.
    supported: { 'dynamic-import': false },
    plugins,
    banner: { js: banner },
    footer: { js: footer },
    logOverride: { 'ignored-bare-import': 'silent' },
  })
  return outputFiles
}

/** Writes `dist/scripts` of qemu-vmm, as far as it is not there. */
export async function bundleScripts() {
  const here = 'var __urlOf=()=>require("node:url").pathToFileURL(__filename).href;'
  const starting = await joinModules(starters, here, '')
  const joined = [
    ...(await joinModules(command, head, tail, [withoutMachine, urls])),
    ...(await joinModules(devices, head, tail)),
  ]
  const digests = new Set()
  const files = [
    ...starting.map(({ path, contents }) => ({ path: path.replace(/js$/, 'cjs'), contents })),
    ...joined.map(({ path, contents }) => {
      const digest = createHash('sha256').update(contents).digest('hex').slice(0, 16)
      digests.add(digest)
      return {
        path: path.replace(/js$/, 'script'),
        contents: Buffer.concat([Buffer.from(`//${digest}\n`), contents]),
      }
    }),
  ]
  replaceFiles(outdir, files)
  // What V8 compiled of scripts that are no more.
  const code = join(outdir, 'code')
  if (!existsSync(code)) return
  for (const name of readdirSync(code)) {
    if (!digests.has(name.split('-').at(-2))) rmSync(join(code, name))
  }
}
