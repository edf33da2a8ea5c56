// Programs in Go with go-libvirt, which has libvirt's protocol of its own, as Terraform's provider does.
import { execFile } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { bothSides, document } from './support/both-sides.ts'
import type { Side } from './support/both-sides.ts'
import { without } from './support/clients.ts'
import { folder } from './support/daemon.ts'
import { missing } from './support/libvirtd.ts'

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('support/go-client.go', import.meta.url))
/** Where Debian has sources of Go. */
const SOURCES = '/usr/share/gocode'
const LIBRARY = join(SOURCES, 'src/github.com/digitalocean/go-libvirt')

/** Builds the program. Rejects when there is no compiler. */
async function build(to: string): Promise<void> {
  // Debian's packages are found by path, without a network.
  const env = {
    ...process.env,
    GO111MODULE: 'off',
    GOPATH: SOURCES,
    GOFLAGS: '',
    GOTOOLCHAIN: 'local',
  }
  await run('go', ['build', '-o', to, PROGRAM], { env, timeout: 300_000 })
}

test('go-libvirt sees the same of both daemons', async (t) => {
  if (process.env['LONG'] === undefined) {
    t.log('the compiler takes half a minute: with LONG=1')
    t.pass()
    return
  }
  t.timeout(600_000)
  if (!existsSync(LIBRARY)) return without(t, 'golang-github-digitalocean-go-libvirt-dev')
  if ((await run('go', ['version']).catch(() => undefined)) === undefined) return without(t, 'Go')
  const none = missing()
  if (none !== undefined) return without(t, none)
  const program = join(folder(t), 'client')
  await build(program)
  const sides = await bothSides(t)
  const say = async (side: Side): Promise<string> => {
    const file = join(side.at, 'p.xml')
    writeFileSync(file, document(side))
    const { stdout } = await run(program, [side.socket, side.at, file], { timeout: 120_000 }).catch(
      (error: { stdout: string; stderr: string }) => ({ stdout: `${error.stdout}${error.stderr}` }),
    )
    return stdout.replaceAll(side.at, 'DIR')
  }
  const [ours, theirs] = await Promise.all(sides.map(say))
  t.regex(theirs!, /\nend\n$/)
  t.is(ours, theirs)
})
