// The same commands of virsh to this daemon and to libvirt's own, both with Debian's QEMU: what they say is compared. What
// differs is listed, with why, and has to differ.
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { folder, startDaemon } from './support/daemon.ts'
import { virsh, without } from './support/clients.ts'
import type { Outcome } from './support/clients.ts'
import { SCRIPT, domains } from './support/compare-script.ts'
import { Libvirtd, missing, qemu } from './support/libvirtd.ts'

/** What differs from run to run: numbers of processes, times, terminals, folders. */
function masked(text: string, at: string): string {
  return (
    text
      .replaceAll(at, 'DIR')
      .replaceAll(/\/[\w/.-]*\/run\/libvirt\/libvirt-sock|DIR\/s\b/g, 'SOCKET')
      .replaceAll(/\/dev\/pts\/\d+/g, 'PTY')
      .replaceAll(/(on process )\d+/g, '$1PID')
      // Of a processor it is only shown when there is any.
      .replaceAll(/(State: +\w+\n)CPU time: .*\n/g, '$1')
      .replaceAll(/(CPU time: +)[\d.]+s/g, '$1TIMEs')
      .replaceAll(/(\w*time\w*[ =:]+)\d+/gi, '$1TIME')
      .replaceAll(/(rss[ =])\d+/g, '$1KIB')
      .replaceAll(/((?:rd|wr|flush|fl)[._]\w+[ =])\d+/g, '$1COUNT')
      .replaceAll(/((?:wait|delay)=)\d+/g, '$1TIME')
      .replaceAll(/"id":"libvirt-\d+"/g, 'ID')
      .replaceAll(/^((?:user|system|idle|iowait|free|buffers|cached|available) *:) +\d+/gm, '$1 N')
      .replaceAll(/^(CPU: +)\d+/gm, '$1N')
      .replaceAll(/^(\d+|Total): +\d+ KiB/gm, '$1: N KiB')
      .replaceAll(
        /(available|allocation|Available|Allocation)( unit='bytes'>|: +)[\d.]+( GiB)?/g,
        '$1$2N',
      )
      .replaceAll(/<(owner|group)>\d+</g, '<$1>N<')
      .replaceAll(/<([amc]time)>[\d.]+</g, '<$1>TIME<')
      // Images of another qemu-img.
      .replaceAll(/(<physical unit='bytes'>|Physical: +)[\d.]+/g, '$1N')
      .trim()
  )
}

/** What a description of a running domain has with libvirt alone, and why. */
const ABSENT: readonly (readonly [pattern: RegExp, ours: string, why: string])[] = [
  [/^ +<source path='PTY'\/>\n/gm, '', 'a console is a socket of the daemon, not a terminal'],
  [/ tty='PTY'/g, '', 'the same'],
]

test.serial('virsh says the same of both daemons', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  const at = folder(t)
  chmodSync(at, 0o711)
  const sides = { ours: join(at, 'one'), theirs: join(at, 'two') }
  for (const side of Object.values(sides)) {
    mkdirSync(side)
    for (const [name, xml] of Object.entries(domains(side, qemu))) {
      writeFileSync(join(side, `${name}.xml`), xml)
    }
    for (const name of ['vda', 'vdb', 'iso']) {
      writeFileSync(join(side, `${name}.img`), Buffer.alloc(1 << 20))
      chmodSync(join(side, `${name}.img`), 0o666)
    }
    chmodSync(side, 0o755)
  }
  const { socket } = await startDaemon(t, sides.ours, { emulator: qemu })
  const libvirtd = new Libvirtd()
  t.teardown(() => libvirtd.stop())
  mkdirSync(join(sides.theirs, 'pool'))
  mkdirSync(join(sides.ours, 'pool'))
  if (process.getuid?.() === 0) chownSync(join(sides.theirs, 'pool'), 65_534, 65_534)
  await libvirtd.start()

  const run = async (side: 'ours' | 'theirs'): Promise<string[]> => {
    const said: string[] = []
    for (const { command } of SCRIPT) {
      const words = command.split(' ').map((word) => word.replaceAll('DIR', sides[side]))
      const { code, output }: Outcome =
        side === 'ours' ? await virsh(socket, ...words) : await libvirtd.outcome(words)
      said.push(`${code}\n${masked(output, sides[side])}`)
    }
    return said
  }
  const [ours, theirs] = await Promise.all([run('ours'), run('theirs')])
  t.true(SCRIPT.length >= 60)
  for (const [index, { command, differs }] of SCRIPT.entries()) {
    const label = `${index + 1}: virsh ${command}`
    const expected = ABSENT.reduce(
      (text, [pattern, replacement]) => text.replaceAll(pattern, replacement),
      theirs[index]!,
    )
    if (differs === undefined) t.is(ours[index], expected, label)
    else t.not(ours[index], theirs[index], `${label}: is the same now, though ${differs}`)
  }
  const listed = SCRIPT.filter(({ differs }) => differs !== undefined)
  t.log(`${SCRIPT.length} commands, of which ${listed.length} may differ`)
  for (const { command, differs } of listed) t.log(`${command}: ${differs}`)
})
