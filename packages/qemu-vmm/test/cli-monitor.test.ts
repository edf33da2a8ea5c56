import test from 'ava'
import * as fc from 'fast-check'
import { Mux } from '../src/chardev/mux.ts'
import { completeMonitorLine } from '../src/monitor/commands.ts'
import { LineEditor } from '../src/monitor/line-editor.ts'
import { Monitor } from '../src/monitor/monitor.ts'
import { formatRegisters } from '../src/monitor/registers.ts'
import { FakeMachine, monitorOf, noCharacters } from './fixtures/fake-machine.ts'
import { FakeDevice, bytes, text } from './fixtures/fake-device.ts'
import { NO_STATS } from './support/qmp-session.ts'

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function editor(): { keys: (typed: string) => void; lines: string[]; screen: () => string } {
  const lines: string[] = []
  let shown = ''
  const edit = new LineEditor({
    prompt: '> ',
    write: (part) => {
      shown += part
    },
    onLine: (line) => lines.push(line),
    complete: completeMonitorLine,
  })
  return {
    keys: (typed) => {
      for (const byte of bytes(typed)) edit.feed(byte)
    },
    lines,
    screen: () => shown,
  }
}

test('a line can be edited', (t) => {
  const { keys, lines } = editor()
  keys('abd\x1b[Dc\r')
  keys('xabc\x01\x04\x1b[F\x7f\x1b[H\x1b[3~\r')
  keys('one two  \x17three\x1b[1~\x1b[C\x0b\r')
  keys('kill all\x15none\n')
  keys('\x1b[A\x1b[A!\r')
  keys('draft\x1b[A\x1b[B\r')
  keys('a\r\nb\x1bOD\x1bOCc\r')
  t.deepEqual(lines, ['abcd', 'b', 'o', 'none', 'o!', 'draft', 'a', 'bc'])
})

test('the tab key completes words', (t) => {
  const { keys, lines, screen } = editor()
  keys('inf\tst\t\r')
  keys('system_\tp\t\r')
  keys('help inf\t\r')
  keys('info registers \t\r')
  t.deepEqual(lines, ['info status ', 'system_powerdown ', 'help info ', 'info registers '])
  t.regex(screen(), /\nsystem_powerdown {2}system_reset {2}system_wakeup\n> system_/)
})

test('no sequence of keys breaks the editor', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (typed) => {
      const { keys } = editor()
      t.notThrows(() => keys(text(typed)))
    }),
  )
})

test('commands of the monitor', async (t) => {
  const machine = new FakeMachine()
  let quits = 0
  const run = monitorOf(machine, {
    name: 'vm1',
    quit: () => {
      quits++
    },
    history: () => ['stop'],
  })
  t.is(await run(''), '')
  t.is(await run('info status'), 'VM status: running\n')
  t.is(await run(' stop '), '')
  t.is(await run('info status'), 'VM status: paused\n')
  await run('c')
  await run('system_reset')
  await run('system_powerdown')
  t.deepEqual(machine.calls, ['pause', 'resume', 'reset', 'powerdown'])
  t.is(await run('info name'), 'vm1\n')
  t.is(await run('info uuid'), '00000000-0000-0000-0000-000000000000\n')
  t.is(await run('info cpus'), '* CPU #0:\n')
  t.is(await run('info history'), "0: 'stop'\n")
  t.regex(await run('info version'), /QEMU emulator version 7\.2/)
  t.is(await run('stopp'), "unknown command: 'stopp' (did you mean 'stop'?)\n")
  t.regex(await run('info foo'), /^unknown command: 'info foo'/)
  t.is(
    await run('stop now'),
    'stop|s: extraneous characters at the end of line\nTry "help stop" for more information\n',
  )
  t.is(await run('help stop'), 'stop|s  -- stop the machine\n')
  t.is(await run('help info status'), 'info status  -- show whether the machine runs\n')
  t.is(await run('info'), await run('help info'))
  t.regex(
    await run('?'),
    /^announce_self .*\nballoon .*\nchange .*\n[^]*\ncont\|c .*\n[^]*\nhelp\|\? \[cmd\]/,
  )
  t.regex(await run('info registers 7'), /CPU#7 not available/)
  t.regex(await run('info jit'), /only available with accel=tcg/)
  machine.counters = { interpretedInstructions: 1000, translations: 7, codeBytes: 900 }
  t.regex(await run('info jit'), /^instructions interpreted +1000\n[^]*\nregions translated +7\n/)
  t.regex(await run('info jit'), /\nin translated code +0.00 s \(0.0 %\)\n/)
  Object.assign(machine.counters, { translatedNs: 3e9, interpretedNs: 5e8, helperNs: 5e8 })
  t.regex(await run('info jit'), /\nin translated code +3.00 s \(75.0 %\)\n/)
  machine.status = 'shutdown'
  t.is(await run('cont'), 'Error: reset it first\n')
  t.is(await run('q'), '')
  t.is(quits, 1)
})

test('devices, drives and objects are added and removed by commands', async (t) => {
  const machine = new FakeMachine()
  const run = monitorOf(machine)
  t.is(await run('object_add rng-random,id=r,filename=/dev/urandom'), '')
  t.is(await run('drive_add 0 if=none,id=d,file=a,,b c.img,format=raw'), 'OK\n')
  t.is(await run('device_add virtio-blk-pci,drive=d,id=disk,bus=port'), '')
  t.is(await run('device_del disk'), '')
  t.is(await run('drive_del d'), '')
  t.is(await run('object_del r'), '')
  t.deepEqual(machine.calls, [
    'object {"type":"rng-random","id":"r","filename":"/dev/urandom"}',
    'drive {"id":"d","file":"a,b c.img","format":"raw","deleteWithDevice":true}',
    'device {"driver":"virtio-blk-pci","id":"disk","properties":{"drive":"d","bus":"port"}}',
    'no device disk',
    'no drive d',
    'no object r',
  ])
  t.regex(await run('device_add virtio-rng-pci,help'), /^virtio-rng-pci options:\n[^]*rng=<str>/)
  t.regex(await run('device_add nope'), /^Error: 'nope' is not a valid device model name/)
  t.regex(await run('device_add virtio-rng-pci,foo=1'), /^Error: Property .*foo' not found/)
  t.regex(await run('drive_add 0 if=virtio,file=x'), /^Can't hot-add drive/)
  t.regex(await run('drive_add 0'), /^opts: string expected/)
  t.regex(await run('device_del'), /^id: string expected/)
  t.is(await run('info block'), '')
  t.is(
    await run('info network'),
    'n0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\n' +
      ' \\ lan: index=0,type=user,net=10.0.2.0,restrict=off\n' +
      'spare: index=0,type=user,net=10.0.2.0,restrict=off\n',
  )
  machine.open = [
    {
      id: 'd',
      file: 'x',
      readOnly: true,
      sizeBytes: 512,
      isWaiting: false,
      owner: 'disk',
      stats: NO_STATS,
    },
  ]
  t.is(
    await run('info block'),
    'd: x (by content, read-only)\n    Attached to:      disk\n    Cache mode:       writeback\n',
  )
})

for (const when of ['after', 'before'] as const) {
  test(`a monitor runs lines one after the other that are piped ${when} it is there`, async (t) => {
    const device = new FakeDevice()
    const lines = 'stop\ninfo status\ncont\ninfo status\n'
    if (when === 'before') device.type(lines)
    const context = { machine: new FakeMachine(), name: undefined, uuid: undefined, quit() {} }
    const monitor = new Monitor(device, { ...context, characters: noCharacters() })
    if (when === 'after') device.type(lines)
    await settle()
    monitor.close()
    const [greeting, ...shown] = device.take().split('\r\n')
    t.regex(greeting ?? '', /^qemu-vmm .* monitor - type 'help' for more information$/)
    t.deepEqual(shown, [
      '(qemu) stop',
      '(qemu) info status',
      'VM status: paused',
      '(qemu) cont',
      '(qemu) info status',
      'VM status: running',
      '(qemu) ',
    ])
  })
}

test('a monitor behind the multiplexer keeps still until it has the keyboard', async (t) => {
  const below = new FakeDevice()
  const mux = new Mux(below, { escapeCode: 1, onQuit() {} })
  const serial = mux.addPort()
  const monitor = new Monitor(mux.addPort(), {
    machine: new FakeMachine(),
    name: undefined,
    uuid: undefined,
    characters: noCharacters(),
    quit() {},
  })
  serial.write(bytes('boot'))
  t.is(below.take(), 'boot')
  below.type('\x01c')
  t.regex(below.take(), /^qemu-vmm .*\r\n\(qemu\) $/)
  below.type('info sta')
  below.type('\x01c')
  t.is(below.take(), 'info sta\r\n')
  below.type('\x01c')
  t.is(below.take(), '(qemu) info sta')
  below.type('tus\r')
  await settle()
  t.is(below.take(), 'tus\r\nVM status: running\r\n(qemu) ')
  monitor.close()
})

test('registers have the layout of QEMU', (t) => {
  const { cpu } = new FakeMachine()
  cpu.regs.set([0x1ad40n, 0n, 0n, 0x4000000000000000n, 0x83n, 0x364n, 0xffffffffa9203e98n])
  cpu.regs[7] = 0xffffffffa921aa40n
  cpu.regs[16] = 0xffffffffa8217a0bn
  cpu.regs[17] = 0x246n
  cpu.halted = true
  const s = new DataView(cpu.sregs.buffer)
  const set = (at: number, selector: number, attributes: number[], limit = 0xffffffff): void => {
    s.setUint32(at + 8, limit, true)
    s.setUint16(at + 12, selector, true)
    cpu.sregs.set(attributes, at + 14)
  }
  // type present dpl db s l g avl unusable
  set(0, 0x10, [0xb, 1, 0, 0, 1, 1, 1, 0, 0])
  set(24, 0, [0, 0, 0, 0, 0, 0, 0, 0, 1], 0)
  set(120, 0x18, [3, 1, 0, 1, 1, 0, 1, 0, 0])
  set(144, 0x40, [0xb, 1, 0, 0, 0, 0, 0, 0, 0], 0x4087)
  s.setBigUint64(192, 0xfffffe0000001000n, true)
  s.setUint16(200, 0x7f, true)
  s.setBigUint64(224, 0x80050033n, true)
  s.setBigUint64(264, 0xd01n, true)
  cpu.debugRegs[4] = 0xffff0ff0n
  cpu.fpu.set([0x7f, 0x03], 128)
  cpu.fpu.set([0x00, 0x38], 130)
  cpu.fpu.set([1, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f], 0)
  cpu.fpu.set([0x34, 0x12], 152)
  cpu.fpu.set([0x80, 0x1f], 408)
  const lines = formatRegisters(cpu).split('\n')
  const has = (line: string): boolean => t.true(lines.includes(line), line)
  t.is(
    lines[0],
    'RAX=000000000001ad40 RBX=0000000000000000 RCX=0000000000000000 RDX=4000000000000000',
  )
  t.is(
    lines[1],
    'RSI=0000000000000083 RDI=0000000000000364 RBP=ffffffffa921aa40 RSP=ffffffffa9203e98',
  )
  t.is(
    lines[2],
    'R8 =0000000000000000 R9 =0000000000000000 R10=0000000000000000 R11=0000000000000000',
  )
  has('RIP=ffffffffa8217a0b RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1')
  has('CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]')
  has('SS =0018 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]')
  has('DS =0000 0000000000000000 00000000 00000000')
  has('TR =0040 0000000000000000 00004087 00008b00 DPL=0 TSS64-busy')
  has('GDT=     fffffe0000001000 0000007f')
  has('CR0=80050033 CR2=0000000000000000 CR3=0000000000000000 CR4=00000000')
  has('DR6=00000000ffff0ff0 DR7=0000000000000000')
  has('EFER=0000000000000d01')
  has('FCW=037f FSW=3800 [ST=7] FTW=00 MXCSR=00001f80')
  has('FPR6=0000000000000000 0000 FPR7=8000000000000001 3fff')
  has('XMM00=0000000000000000 0000000000001234 XMM01=0000000000000000 0000000000000000')
  t.is(lines.filter((line) => line.startsWith('XMM')).length, 8)
  s.setBigUint64(264, 0n, true)
  t.regex(formatRegisters(cpu), /^EAX=0001ad40 .*\nESI=.*\nEIP=a8217a0b EFL=00000246/)
})
