// Media that come and go: the same commands to our process and to QEMU 7.2's, answers and events word by word.
import { writeFileSync } from 'node:fs'
import test from 'ava'

import { temporary } from './support/disks.ts'
import { runOurs, runTheirs } from './support/qmp-machines.ts'
import type { Command } from './support/qmp-machines.ts'
import { hasPeer } from './support/qtest.ts'

const compare = hasPeer ? test.serial : test.serial.skip

function call(execute: string, args?: Record<string, unknown>): Command {
  return args === undefined ? { execute } : { execute, arguments: args }
}

const human = (line: string): Command => call('human-monitor-command', { 'command-line': line })
const onCd = (name: string, args: Record<string, unknown> = {}): Command =>
  call(`blockdev-${name}`, { id: 'cd', ...args })
const QUERY = call('query-block')

/** Drives of all kinds: fixed and not, with a node, with a name, with nothing. */
const DRIVES = `
  -device virtio-rng-pci,id=r
  -blockdev driver=raw,node-name=hdn,file.driver=file,file.filename=h.img
  -device ide-hd,id=hd,drive=hdn,bus=ide.0,unit=0
  -blockdev driver=file,node-name=plain,filename=p.img
  -device virtio-blk-pci,id=vp,drive=plain
  -blockdev driver=file,node-name=below,filename=q.img
  -blockdev driver=raw,node-name=above,file=below
  -drive if=none,id=hdd,file=h2.img,format=raw -device virtio-blk-pci,id=vb,drive=hdd
  -drive if=none,id=spare
  -blockdev driver=raw,node-name=n2,read-only=on,file.driver=file,file.filename=a.iso
  -blockdev driver=raw,node-name=n,read-only=on,file.driver=file,file.filename=b.iso
  -device ide-cd,id=cd,drive=n,bus=ide.1,unit=0
  -device floppy,id=fl
  -drive if=none,id=cd2,media=cdrom -device ide-cd,drive=cd2,id=cdx,bus=ide.1,unit=1
`
  .trim()
  .split(/\s+/)

const COMMANDS: readonly Command[] = [
  QUERY,
  ...['eject', 'blockdev-open-tray', 'blockdev-close-tray'].flatMap((name) => [
    call(name, { id: 'nope' }),
    call(name, { device: 'nope' }),
    call(name, {}),
    call(name, { device: 'hdd', id: 'cd' }),
    call(name, { id: 'hd' }),
    call(name, { device: 'hdd' }),
    call(name, { id: 'r' }),
    call(name, { device: 'spare' }),
    call(name, { id: 'fl' }),
  ]),
  call('blockdev-remove-medium', { id: 'hd' }),
  call('blockdev-remove-medium', { device: 'spare' }),
  onCd('remove-medium'),
  onCd('insert-medium', { 'node-name': 'zz' }),
  onCd('insert-medium', { 'node-name': 'n2' }),
  onCd('open-tray'),
  onCd('open-tray', { force: true }),
  onCd('insert-medium', { 'node-name': 'n2' }),
  QUERY,
  onCd('remove-medium'),
  onCd('remove-medium'),
  onCd('insert-medium', { 'node-name': 'hdn' }),
  onCd('insert-medium', { 'node-name': 'n2' }),
  call('blockdev-insert-medium', { id: 'hd', 'node-name': 'n' }),
  onCd('close-tray'),
  onCd('close-tray'),
  QUERY,
  onCd('change-medium'),
  onCd('change-medium', { filename: '/nowhere' }),
  onCd('change-medium', { filename: 'b.iso', format: 'zz' }),
  onCd('change-medium', { filename: 'b.iso', 'read-only-mode': 'zz' }),
  call('blockdev-change-medium', { id: 'hd', filename: 'b.iso', format: 'raw' }),
  onCd('change-medium', { filename: 'b.iso', format: 'raw' }),
  QUERY,
  call('eject', { id: 'cd' }),
  call('eject', { id: 'cd' }),
  call('query-blockstats'),
  call('system_reset'),
  QUERY,
  call('blockdev-change-medium', { id: 'fl', filename: 'f.img', format: 'raw' }),
  QUERY,
  call('eject', { id: 'fl' }),
  QUERY,
  human('change cd b.iso'),
  human('change cd2 b.iso raw'),
  human('eject cd2'),
  human('change spare c.iso raw'),
  human('change spare'),
  human('change'),
  human('change spare d.iso raw read-write'),
  human('change spare b.iso raw foo'),
  QUERY,
  human('eject'),
  human('eject -f spare'),
  human('eject nope'),
  QUERY,
  onCd('open-tray'),
  onCd('insert-medium', { 'node-name': 'n' }),
  onCd('close-tray'),
  call('query-blockstats'),
]

/** Names of nodes that nobody has given one: QEMU's begin so, and those of -drive are called as the drive. */
const NAMELESS = /^#|^(hdd|floppy0|ide\d-cd0)$/
/** What ours does not tell: of space on the host, and of the file below a node. */
const UNTOLD = new Set(['actual-size', 'dirty-flag', 'driver-specific', 'parent'])

/** An answer without what is another in each program. */
function plain(value: unknown): unknown {
  if (typeof value === 'string') return value.replaceAll(/ \(#block\d+\)|#block\d+/g, '')
  if (Array.isArray(value)) {
    // There is no SD card here.
    return value.map(plain).filter((entry) => (entry as { device?: string })?.device !== 'sd0')
  }
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).flatMap(([name, member]) => {
    if (UNTOLD.has(name) || name.endsWith('_ns')) return []
    if (name === 'node-name' && NAMELESS.test(member as string)) return [[name, '#']]
    // Devices of -drive are elsewhere in QEMU's tree.
    if (name === 'qdev')
      return [[name, (member as string).replace(/^\/(?!machine\/peripheral\/).*/, '')]]
    return [[name, plain(member)]]
  })
  return Object.fromEntries(entries)
}

async function both(
  cwd: string,
  args: readonly string[],
  commands: readonly Command[],
): Promise<[unknown[], unknown[]]> {
  const ours = await runOurs(cwd, args, commands)
  const theirs = await runTheirs(cwd, args, commands)
  return [ours.map(plain), theirs.map(plain)]
}

compare('media are moved with the answers and events of QEMU', async (t) => {
  t.timeout(120_000)
  const folder = temporary(t)
  for (const [name, bytes] of [
    ['a.iso', 2 << 20],
    ['b.iso', 3 << 20],
    ['c.iso', 1 << 20],
    ['d.iso', 2 << 20],
    ['h.img', 1 << 20],
    ['p.img', 1 << 20],
    ['q.img', 1 << 20],
    ['h2.img', 1 << 20],
    ['f.img', 1440 << 10],
  ] as const) {
    writeFileSync(folder(name), new Uint8Array(bytes))
  }
  const args = ['-M', 'pc', '-nodefaults', ...DRIVES]
  const [ours, theirs] = await both(folder('.'), args, COMMANDS)
  for (const [i, command] of COMMANDS.entries()) {
    t.deepEqual(ours[i], theirs[i], JSON.stringify(command))
  }
})

compare('nodes that have names are listed as by QEMU', async (t) => {
  t.timeout(120_000)
  const folder = temporary(t)
  for (const name of ['p.img', 'q.img', 'r.img'])
    writeFileSync(folder(name), new Uint8Array(65_536))
  const args = [
    '-M',
    'pc',
    '-nodefaults',
    '-blockdev',
    'driver=file,node-name=plain,filename=p.img',
    '-blockdev',
    'driver=file,node-name=below,filename=q.img',
    '-blockdev',
    'driver=raw,node-name=above,file=below',
  ]
  const commands = [
    call('query-named-block-nodes'),
    call('blockdev-add', { driver: 'file', 'node-name': 'late', filename: 'r.img' }),
    call('blockdev-add', { driver: 'raw', 'node-name': 'over', file: 'late', 'read-only': true }),
    call('query-named-block-nodes'),
    call('blockdev-del', { 'node-name': 'over' }),
    call('query-named-block-nodes', { flat: true }),
    call('blockdev-del', { 'node-name': 'late' }),
    call('query-named-block-nodes'),
  ]
  const [ours, theirs] = await both(folder('.'), args, commands)
  for (const [i, command] of commands.entries()) {
    const sorted = (answer: unknown): unknown => {
      const { return: list } = answer as { return: { 'node-name': string }[] }
      if (!Array.isArray(list)) return answer
      return list.toSorted((a, b) => (a['node-name'] < b['node-name'] ? -1 : 1))
    }
    t.deepEqual(sorted(ours[i]), sorted(theirs[i]), JSON.stringify(command))
  }
})

compare('the drives of a machine that is told of none are those of QEMU', async (t) => {
  t.timeout(120_000)
  const folder = temporary(t)
  for (const name of ['f.img', 'a.iso']) writeFileSync(folder(name), new Uint8Array(1440 << 10))
  const commands = [QUERY, human('info block'), call('query-blockstats')]
  for (const args of [
    ['-M', 'pc'],
    ['-M', 'q35'],
    ['-M', 'pc', '-nodefaults'],
    ['-M', 'pc', '-drive', 'file=f.img,if=floppy,format=raw'],
    ['-M', 'q35', '-drive', 'file=f.img,if=floppy,format=raw', '-cdrom', 'a.iso'],
    ['-M', 'pc', '-drive', 'if=none,id=x', '-drive', 'if=ide,index=1,media=cdrom'],
  ]) {
    const [ours, theirs] = await both(folder('.'), args, commands)
    const info = (answers: unknown[]): string =>
      ((answers[1] as { return: string }).return ?? '')
        .replaceAll(/(Attached to: +)\/.*/g, '$1board')
        .replaceAll(/(?:\r\n)?sd0[^]*/g, '')
    t.is(info(ours), info(theirs), args.join(' '))
    for (const i of [0, 2]) t.deepEqual(ours[i], theirs[i], args.join(' '))
  }
})
