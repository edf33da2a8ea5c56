// The disk with Debian's programs for the engine benchmark: mmdebstrap unpacks them and mke2fs makes the file system, both
// without root, without a loop device and without running anything of what is unpacked.
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as archive from '../lib/cpio.mjs'
import { root } from '../lib/paths.mjs'
import { capture, must, run } from '../lib/run.mjs'
import { addFiles, fileSystem } from './disk.mjs'
import { engineSources } from './engine.mjs'
import { systemFiles } from './initramfs.mjs'

/** What the programs do, and on what. */
export const programSources = join(root, 'bench/engine/programs')

/** What is unpacked, beside what it depends on. */
export const debianPackages = [
  'busybox-static',
  'gzip',
  'coreutils',
  'openssl',
  'sqlite3',
  'python3-minimal',
  'gcc',
  'libc6-dev',
]
const sizeMib = 640

/**
 * Writes an archive with these packages of this machine's Debian release and all that they depend on. Nothing is set up:
 * programs that need no more than their files are what the disk is for.
 * @param {string} tarball
 * @param {import('./apt.mjs').Apt} apt
 * @returns {Promise<string | undefined>} what is missing; undefined when all went well
 */
export async function debianTree(tarball, apt) {
  const release = codename()
  if (release === undefined) return 'this is not a Debian release'
  const program = await mmdebstrap(apt)
  if (program === undefined) return 'mmdebstrap cannot be had'
  const include = `--include=${debianPackages.join(',')}`
  const unfinished = `${tarball}.part.tar`
  const options = ['--variant=extract', '--mode=chrootless', '--skip=output/dev', '--quiet']
  const code = await run('perl', [program, ...options, include, release, unfinished])
  if (code !== 0) return 'mmdebstrap could not unpack the packages'
  renameSync(unfinished, tarball)
  return undefined
}

/** The name of this machine's Debian release; undefined where it is another system. */
export function codename() {
  try {
    return /^VERSION_CODENAME=(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

/**
 * The path of the program, which is fetched where it is not installed.
 * @param {import('./apt.mjs').Apt} apt
 */
export async function mmdebstrap(apt) {
  if (capture('perl', ['-v']) === undefined) return undefined
  if (capture('mmdebstrap', ['--version'])) return '/usr/bin/mmdebstrap'
  const unpacked = await apt.fetch('mmdebstrap')
  return unpacked && join(unpacked, 'usr/bin/mmdebstrap')
}

/**
 * Writes a raw image of the tree, with the init of the other guests, the suite, and what the programs work on.
 * @param {string} image
 * @param {{tarball: string, suite: string, busybox: string}} from
 * @param {import('./apt.mjs').Apt} apt
 */
export async function programsImage(image, { tarball, suite, busybox }, apt) {
  const folder = mkdtempSync(join(tmpdir(), 'guest-programs-'))
  try {
    // Owners do not matter: the guest has no users but root.
    await must('tar', ['-x', '--no-same-owner', '-f', tarball, '-C', folder])
    const marker = { name: 'etc/on-disk', mode: archive.file }
    addFiles([...systemFiles(busybox), marker, ...workFiles(suite)], folder)
    rmSync(image, { force: true })
    await fileSystem(folder, image, sizeMib, apt)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** @param {string} suite @returns {import('../lib/cpio.mjs').Entry[]} */
function workFiles(suite) {
  const files = ['query.sql', 'work.py'].map((name) => join(programSources, name))
  files.push(...['lz.c', 'suite.h'].map((name) => join(engineSources, name)))
  return [
    { name: 'bin/engine-suite', mode: archive.executable, data: readFileSync(suite) },
    { name: 'suite', mode: archive.directory },
    {
      name: 'suite/run',
      mode: archive.executable,
      data: readFileSync(join(programSources, 'run.sh')),
    },
    { name: 'suite/text', mode: archive.file, data: text() },
    ...files.map((path) => ({
      name: `suite/${path.slice(path.lastIndexOf('/') + 1)}`,
      mode: archive.file,
      data: readFileSync(path),
    })),
  ]
}

/** Lines of words, the frequent ones far more frequent than the rare ones, as in texts; the same each time. */
function text() {
  let state = 1
  const next = () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 8
  const syllables = ['ba', 'con', 'de', 'fi', 'gra', 'lo', 'mi', 'nu', 'pre', 'so', 'tri', 'ver']
  const words = Array.from({ length: 3000 }, () =>
    Array.from({ length: 1 + (next() % 4) }, () => syllables[next() % syllables.length]).join(''),
  )
  const lines = Array.from({ length: 16_000 }, (_, line) => {
    const chosen = Array.from({ length: 4 + (next() % 8) }, () => {
      const fraction = next() / 2 ** 24
      return words[Math.floor(fraction ** 3 * words.length)]
    })
    return `${line} ${next() % 10_000} ${chosen.join(' ')}\n`
  })
  return lines.join('')
}
