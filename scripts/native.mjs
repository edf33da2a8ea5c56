// Builds the native addon of kvm-core, where its loader looks for it: packages/kvm-core/native.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { bin, core } from './lib/paths.mjs'
import { Failure, capture, log, must } from './lib/run.mjs'
import { filesBelow, hashFiles, stampIs, writeStamp } from './lib/stamp.mjs'

const output = join(core, 'native')
const addon = join(output, 'kvm-core.linux-x64-gnu.node')
const stamp = join(output, '.stamp')

/** Builds the addon unless nothing that it is made of has changed since the last time. */
export async function buildNative() {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    throw new Failure(`the addon is built for Linux on x86-64 only, this is ${platform} ${arch}`)
  }
  const rustc = capture('rustc', ['--version'])
  if (rustc === undefined) {
    throw new Failure('rustc and cargo are needed: install Rust 1.88 or newer with rustup')
  }
  const sources = filesBelow([core], (path) => /\.(rs|toml|lock|S|c|h)$/.test(path))
  const value = hashFiles(sources, rustc)
  if (stampIs(stamp, value) && existsSync(addon)) return
  log('building the native addon')
  // The command line tool puts the addon under its platform's name, and replaces the old file at once: a running
  // process may have it mapped.
  const crate = ['--manifest-path', 'crates/binding/Cargo.toml', '--package', 'kvm-binding']
  const target = ['--platform', '--release', '--output-dir', 'native', '--no-js']
  await must(bin('napi'), ['build', ...target, ...crate, '--', '--locked'], { cwd: core })
  writeStamp(stamp, value)
}
