// x and xp of the monitor: what they show is what QEMU 7.2 shows of the same bytes.
import test from 'ava'

import { Management } from '../src/machine/management.ts'
import { FakeMachine, monitorOf } from './fixtures/fake-machine.ts'
import { FlatRam } from './support/ram.ts'

/** The last bytes of a BIOS. */
const BYTES = [
  0xea, 0x5b, 0xe0, 0, 0xf0, 0x30, 0x36, 0x2f, 0x32, 0x33, 0x2f, 0x39, 0x39, 0, 0xfc, 0,
]
const AT = 0xffff0

function monitor(translate: (gva: bigint) => number | undefined = Number): {
  run: (line: string) => Promise<string>
  machine: FakeMachine
} {
  const memory = new FlatRam(1 << 20)
  memory.write(AT, Uint8Array.from(BYTES))
  const handles = { vm: { memory }, vcpus: [{ translate }] } as never
  const management = new Management(1 << 20, handles, {} as never)
  const machine = new FakeMachine()
  const manage = async (call: 'readPhysical' | 'readVirtual', gpa: bigint, length: number) =>
    management[call](gpa, length)
  Object.assign(machine, { manage })
  return { run: monitorOf(machine), machine }
}

test('all formats and sizes', async (t) => {
  const { run } = monitor()
  const head = '00000000000ffff0:'
  for (const [line, shown] of [
    ['xp /8xb 0xffff0', '0xea 0x5b 0xe0 0x00 0xf0 0x30 0x36 0x2f'],
    ['xp /3xw 0xffff0', '0x00e05bea 0x2f3630f0 0x392f3332'],
    ['xp /5dh 0xffff0', '23530   224 12528 12086 13106'],
    ['xp /6cb 0xffff0', "'\\xea' '[' '\\xe0' '\\x00' '\\xf0' '0'"],
    ['xp /2og 0xffff0', '0274661417000070055752   03740003447113631462'],
    ['xp /3ub 0xffff0', '234  91 224'],
    ['xp 0xffff0', '0x00e05bea'],
    ['xp /2x 1048560', '0x00e05bea 0x2f3630f0'],
    ['x /2xg 0xffff0', '0x2f3630f000e05bea 0x00fc0039392f3332'],
  ] as const) {
    t.is(await run(line), `${head} ${shown}\n`, line)
  }
  t.is(
    await run('xp /10xb 0xffff0'),
    `${head} 0xea 0x5b 0xe0 0x00 0xf0 0x30 0x36 0x2f\n00000000000ffff8: 0x32 0x33\n`,
  )
})

test('what cannot be shown is said', async (t) => {
  const { run, machine } = monitor((gva) => (gva < 0x1000n ? Number(gva) + AT : undefined))
  t.is(await run('xp /2x 0xfffffff000000'), '000fffffff000000: Cannot access memory\n')
  t.is(await run('x 0x1000'), '0000000000001000: Cannot access memory\n')
  t.is(await run('x /4xw 0'), '0000000000000000: 0x00e05bea 0x2f3630f0 0x392f3332 0x00fc0039\n')
  machine.cpu.regs[16] = 4n
  t.is(await run('x $rip'), '0000000000000004: 0x2f3630f0\n')
  t.is(await run('x /1xb $eip+3-1'), '0000000000000006: 0x36\n')
  const more = (name: string): string => `\nTry "help ${name}" for more information\n`
  t.is(await run('xp'), `unexpected end of expression${more('xp')}`)
  t.is(await run('xp /zz 0'), `invalid char in format: 'z'${more('xp')}`)
  t.is(await run('x $nope'), 'unknown register\n')
  t.regex(await run('x /2i 0'), /no disassembler/)
  t.regex(await run('xp /999999999x 0'), /in parts/)
  t.regex(await run('xp 0xg'), /invalid char/)
  t.regex(await run('xp 1++2'), /invalid/)
})
