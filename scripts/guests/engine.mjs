// The programs of the engine benchmark: compiled from bench/engine/guest by the host's C compiler, for the host itself and,
// behind the initramfs with the shell, for guests.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import * as archive from '../lib/cpio.mjs'
import { root } from '../lib/paths.mjs'
import { Failure, capture, must } from '../lib/run.mjs'
import { filesBelow } from '../lib/stamp.mjs'

/** Where the sources are. */
export const engineSources = join(root, 'bench/engine/guest')

/** Baseline x86-64, so that every machine executes the same instructions; what libc chooses at run time is its own. */
const flags = ['-O2', '-static', '-std=gnu11', '-Wall', '-Wextra', '-Werror']

/**
 * Compiles the suite into one static program.
 * @param {string} program path of the result
 */
export async function compileSuite(program) {
  const compiler = process.env['CC'] || 'cc'
  if (capture(compiler, ['--version']) === undefined) {
    throw new Failure(`the engine benchmark needs a C compiler: there is no ${compiler}`)
  }
  const sources = filesBelow([engineSources], (path) => path.endsWith('.c'))
  mkdirSync(dirname(program), { recursive: true })
  await must(compiler, [...flags, '-o', program, ...sources, '-lm'])
}

/**
 * Writes an initial RAM disk: another one, and the suite behind it.
 * @param {string} base path of an uncompressed archive
 * @param {string} program
 * @param {string} target
 */
export function writeSuiteInitrd(base, program, target) {
  const suite = archive.cpio([
    { name: 'bin/engine-suite', mode: archive.executable, data: readFileSync(program) },
  ])
  writeFileSync(target, Buffer.concat([readFileSync(base), suite]))
}
