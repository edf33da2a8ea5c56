// A newer QEMU to compare the engine with: the one of Debian's backports, unpacked beside the installed one, which stays.
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './lib/paths.mjs'
import { capture, log, run } from './lib/run.mjs'

const folder = join(root, '.cache/peers/backports')
const command = join(folder, 'qemu-system-x86_64')
const release = 'bookworm'
const suite = `${release}-backports`

/**
 * Makes sure that it is there, if this machine lets us; says why where it does not.
 * @returns {Promise<string | undefined>} its version
 */
export async function newerPeer() {
  if (!existsSync(command)) {
    const trouble = await unpack()
    if (trouble !== undefined) log(`there is no QEMU of ${suite} to compare with: ${trouble}`)
  }
  return existsSync(command) ? capture(command, ['--version'])?.split('\n')[0] : undefined
}

/** @returns {Promise<string | undefined>} what went wrong */
async function unpack() {
  const format = ['--format', '$(CODENAME) $(REPO_URI)', 'Created-By: Packages']
  const targets = capture('apt-get', ['indextargets', ...format]) ?? ''
  const place = targets.split('\n').find((line) => line.startsWith(`${release} `))
  if (place === undefined) return `this is not Debian ${release}`
  for (const name of ['lists/partial', 'archives/partial', 'root']) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  const from = place.split(' ')[1]
  writeFileSync(
    join(folder, 'sources.list'),
    [release, suite].map((name) => `deb ${from} ${name} main\n`).join(''),
  )
  const options = {
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::Lists': join(folder, 'lists'),
    'Dir::Cache': folder,
    'Dir::Cache::archives': join(folder, 'archives'),
    'Debug::NoLocking': 'true',
  }
  const apt = (/** @type {string[]} */ ...args) =>
    run('apt-get', [...Object.entries(options).flatMap(([k, v]) => ['-o', `${k}=${v}`]), ...args], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
      onLine: (line) => line.startsWith('E:') && log(line),
    })
  log(`downloading QEMU of ${suite} to compare with`)
  if ((await apt('-qq', 'update')) !== 0) return 'its package list cannot be read'
  const install = ['-qq', '-y', '-d', '--no-install-recommends', '-t', suite, 'install']
  if ((await apt(...install, 'qemu-system-x86')) !== 0) return 'it cannot be downloaded'
  for (const archive of readdirSync(join(folder, 'archives'))) {
    if (!archive.endsWith('.deb')) continue
    const code = await run('dpkg-deb', [
      '-x',
      join(folder, 'archives', archive),
      join(folder, 'root'),
    ])
    if (code !== 0) return `${archive} cannot be unpacked`
  }
  rmSync(join(folder, 'archives'), { recursive: true })
  const usr = join(folder, 'root/usr')
  const libraries = ['lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu/pulseaudio']
  const path = libraries.map((name) => join(usr, name)).join(':')
  const files = ['share/seabios', 'share/qemu'].map((name) => `-L ${join(usr, name)}`).join(' ')
  // Else it loads the modules of the installed one, and aborts.
  const modules = `QEMU_MODULE_DIR=${join(usr, 'lib/x86_64-linux-gnu/qemu')}`
  writeFileSync(
    command,
    `#!/bin/sh\n${modules} LD_LIBRARY_PATH=${path} exec ${join(usr, 'bin/qemu-system-x86_64')} ${files} "$@"\n`,
  )
  chmodSync(command, 0o755)
  return undefined
}
