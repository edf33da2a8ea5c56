// Builds the native addons where their loaders look for them: native/ in kvm-core and in qemu-vmm.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { bin, core, vmm } from './lib/paths.mjs'
import { Failure, capture, log, must } from './lib/run.mjs'
import { filesBelow, hashFiles, stampIs, writeStamp } from './lib/stamp.mjs'

/**
 * @typedef {object} Addon
 * @property {string} name of the package, and of the file
 * @property {string} folder of the package
 * @property {string} sources where its crates are
 * @property {readonly string[]} crate which of them is the addon
 */

/** @type {readonly Addon[]} */
const addons = [
  {
    name: 'kvm-core',
    folder: core,
    sources: core,
    crate: ['--manifest-path', 'crates/binding/Cargo.toml', '--package', 'kvm-binding'],
  },
  {
    name: 'qemu-vmm',
    folder: vmm,
    sources: join(vmm, 'native'),
    crate: ['--manifest-path', 'native/Cargo.toml'],
  },
]

/** Builds the addons of which something has changed since the last time. */
export async function buildNative() {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    throw new Failure(`the addons are built for Linux on x86-64 only, this is ${platform} ${arch}`)
  }
  const rustc = capture('rustc', ['--version'])
  if (rustc === undefined) {
    throw new Failure('rustc and cargo are needed: install Rust 1.88 or newer with rustup')
  }
  for (const addon of addons) await buildAddon(addon, rustc)
}

/** @param {Addon} addon @param {string} rustc its version */
async function buildAddon({ name, folder, sources, crate }, rustc) {
  const output = join(folder, 'native')
  const stamp = join(output, '.stamp')
  const files = filesBelow([sources], (path) => /\.(rs|toml|lock|S|c|h)$/.test(path))
  const value = hashFiles(files, rustc)
  if (stampIs(stamp, value) && existsSync(join(output, `${name}.linux-x64-gnu.node`))) return
  log(`building the native addon of ${name}`)
  // The command line tool puts the addon under its platform's name, and replaces the old file at once: a running
  // process may have it mapped.
  const target = ['--platform', '--release', '--output-dir', 'native', '--no-js']
  await must(bin('napi'), ['build', ...target, ...crate, '--', '--locked'], { cwd: folder })
  writeStamp(stamp, value)
}
