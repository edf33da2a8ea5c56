// Builds the native addon of kvm-core, where its loader looks for it: packages/kvm-core/native.
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { core } from './lib/paths.mjs'
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
  await must('cargo', ['build', '--release', '--locked', '-p', 'kvm-binding'], { cwd: core })
  const target = process.env['CARGO_TARGET_DIR'] ?? join(core, 'target')
  mkdirSync(output, { recursive: true })
  // A running process may have the old file mapped: it is replaced, never overwritten.
  const next = `${addon}.${process.pid}`
  copyFileSync(join(target, 'release/libkvm_binding.so'), next)
  renameSync(next, addon)
  writeStamp(stamp, value)
}
