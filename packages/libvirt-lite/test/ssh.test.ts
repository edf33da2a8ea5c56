// Access by ssh, without ssh: its place is taken by a program that runs on this host what ssh would on another.
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { hasVirsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon } from './support/daemon.ts'

const hasNc = spawnSync('nc', ['-h']).error === undefined
const hasHelper = spawnSync('virt-ssh-helper', ['--version']).error === undefined

/** Options and the name of the host come before what is to be run there. */
const SSH = `#!/bin/sh
echo "$@" >> "$0.log"
while [ "$1" != "--" ]; do shift; done
shift 2
exec RUNNER sh -c "$*"
`
/** The helper looks for root's daemon below /run, which is another folder for it alone. */
const RUN_IS = (runtime: string): string =>
  `unshare --user --map-root-user --mount sh -c 'mount --bind ${runtime} /run && exec "$@"' sh`

test('virsh reaches the socket by ssh and nc, and by ssh and virt-ssh-helper', async (t) => {
  if (!hasVirsh || !hasNc || !hasHelper) return without(t, 'virsh, nc or virt-ssh-helper')
  const at = folder(t)
  const runtime = join(at, 'runtime')
  mkdirSync(join(runtime, 'libvirt'), { recursive: true, mode: 0o700 })
  // Where clients of a session look when nobody names another.
  const socket = join(runtime, 'libvirt/libvirt-sock')
  await startDaemon(t, at, { socket })
  const ssh = join(at, 'ssh')
  const runner = process.geteuid?.() === 0 ? RUN_IS(runtime) : 'env'
  if (spawnSync('sh', ['-c', `${runner} true`]).status !== 0) {
    return without(t, 'a user namespace that may mount')
  }
  writeFileSync(ssh, SSH.replace('RUNNER', runner), { mode: 0o755 })
  const env = { ...process.env, LC_ALL: 'C', XDG_RUNTIME_DIR: runtime }
  const run = async (query: string, ...args: string[]): Promise<string> => {
    const uri = `qemu+ssh://localhost/session?command=${ssh}${query}`
    return (await promisify(execFile)('virsh', ['-c', uri, ...args], { env, timeout: 60_000 }))
      .stdout
  }
  const file = join(at, 'a.xml')
  writeFileSync(file, domainXml('a'))
  t.regex(await run(`&socket=${socket}&proxy=netcat`, 'define', file), /defined/)
  t.regex(await run(`&socket=${socket}&proxy=netcat`, 'list', '--all'), /a +shut off/)
  t.regex(await run('&proxy=native', 'dominfo', 'a'), /Persistent: +yes/)
  t.regex(await run('', 'dumpxml', 'a'), /<name>a<\/name>/)
  const log = readFileSync(`${ssh}.log`, 'utf8')
  t.regex(log, /'nc' \$ARG -U/)
  t.regex(log, /virt-ssh-helper/)
})
