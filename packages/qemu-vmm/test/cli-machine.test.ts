import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Running } from './fixtures/running.ts'
import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

// The command as it is installed: the worker of the devices exists only in the built package.
const COMMAND = fileURLToPath(new URL('../bin/qemu-kvm.cjs', import.meta.url))
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

let images = 0
function image(code: GuestCode): string {
  return writeImage(folder, `guest-${images++}`, multiboot(code.bytes()))
}

function start(code: GuestCode, ...args: string[]): Running {
  return command('-m', '16', '-accel', 'tcg', '-kernel', image(code), ...args)
}

function command(...args: string[]): Running {
  return new Running(process.execPath, [COMMAND, ...args])
}

/** Waits for characters and sends each back; Q powers off. */
function echo(): GuestCode {
  const code = new GuestCode().print('ready\r\n')
  const loop = code.here
  code.inb(0x3fd).test(1).jumpIfZero(loop).inb(0x3f8)
  // mov bl, al; mov dx, 0x3f8; out dx, al; mov al, bl
  code.raw(0x88, 0xc3, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x88, 0xd8).compare(0x51)
  // je over the jump back
  code.raw(0x74, 0x05).jump(loop)
  return code.powerOff()
}

/** Prints a character so many times, waiting for the transmitter, and powers off. */
function flood(count: number): GuestCode {
  const bytes = [0, 8, 16, 24].map((shift) => (count >>> shift) & 0xff)
  const code = new GuestCode().raw(0xb9, ...bytes)
  const loop = code.here
  // dec ecx after each character
  code.inb(0x3fd).test(0x20).jumpIfZero(loop).outb(0x3f8, 0x78).raw(0x49)
  code.raw(0x74, 0x05).jump(loop)
  return code.powerOff()
}

test.serial('a guest that powers off ends the process with status 0', async (t) => {
  const file = join(folder, 'serial')
  const code = new GuestCode().print('hello\n').powerOff()
  const run = start(code, '-display', 'none', '-serial', `file:${file}`)
  t.like(await run.done, { code: 0, stdout: '', stderr: '' })
  t.is(readFileSync(file, 'utf8'), 'hello\n')
})

test.serial(
  'the terminal and the guest hold a conversation, through the multiplexer',
  async (t) => {
    const run = start(echo(), '-nographic', '-name', 'talker')
    await run.until(/ready/)
    run.child.stdin.write(`first\x01\x01${'long'.repeat(500)}.`)
    await run.until(/first\x01(long){500}\./)
    run.child.stdin.write('\x01cinfo name\ninfo status\nstop\ninfo status\ninfo registers\ncont\n')
    await run.until(/talker\r\n.*running.*VM status: paused\r\n.*RIP|EIP=.*\(qemu\) cont/s)
    run.child.stdin.write('\x01cQ')
    t.like(await run.done, { code: 0, stderr: '' })
  },
)

test.serial('a plugged serial port on a terminal that somebody opens by name', async (t) => {
  const port = ['-chardev', 'pty,id=c', '-device', 'isa-serial,chardev=c,index=0,id=port']
  const qmp = ['-qmp', 'stdio']
  const run = start(echo(), '-nodefaults', '-display', 'none', ...port, ...qmp)
  const [, path = ''] = await run.until(
    /^char device redirected to (\/dev\/pts\/\d+) \(label c\)\n/,
  )
  const terminal = new Running('sh', ['-c', `cat < ${path} & cat > ${path}; wait`])
  await run.until(/"QMP"/)
  for (let i = 0; i < 200 && !terminal.stdout.includes('talk'); i++) {
    terminal.child.stdin.write('talk')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  t.regex(terminal.stdout, /talk/)
  run.child.stdin.write('{"execute":"qmp_capabilities"}{"execute":"query-chardev"}')
  await run.until(new RegExp(`"filename":"pty:${path}","label":"c"`))
  terminal.child.stdin.end('Q')
  t.like(await run.done, { code: 0, stderr: '' })
  await terminal.done
})

test.serial('no output is lost when nobody reads for a while', async (t) => {
  const run = start(flood(300_000), '-display', 'none', '-serial', 'stdio')
  run.child.stdout.pause()
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.is(run.child.exitCode, null, 'the guest waits')
  run.child.stdout.resume()
  const { stdout, code } = await run.done
  t.is(stdout.length, 300_000)
  t.is(code, 0)
})

test.serial('a guest that resets starts again, or ends the process with -no-reboot', async (t) => {
  const code = new GuestCode().print('x').tripleFault()
  const once = start(code, '-nographic', '-no-reboot')
  t.like(await once.done, { stdout: 'x', code: 0, stderr: '' })
  const often = start(code, '-nographic')
  await often.until(/xxx/)
  often.child.kill('SIGTERM')
  t.like(await often.done, { code: 0, stderr: 'qemu-kvm: terminating on signal 15\n' })
})

test.serial('-S waits for cont, -no-shutdown for quit', async (t) => {
  const code = new GuestCode().print('ran').powerOff()
  const run = start(code, '-display', 'none', '-S', '-no-shutdown', '-monitor', 'stdio')
  await run.until(/\(qemu\) /)
  run.child.stdin.write('info status\n')
  await run.until(/VM status: paused \(prelaunch\)/)
  run.child.stdin.write('cont\n')
  for (let i = 0; i < 100 && !run.stdout.includes('(shutdown)'); i++) {
    run.child.stdin.write('info status\n')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await run.until(/VM status: paused \(shutdown\)/)
  run.child.stdin.write('cont\n')
  await run.until(/Error: .*reset/)
  run.child.stdin.write('quit\n')
  t.like(await run.done, { code: 0, stderr: '' })
})

test.serial('signals end the process in order, and remove the file with its id', async (t) => {
  const pidFile = join(folder, 'pid')
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGHUP', 1],
  ] as const) {
    const run = start(echo(), '-nographic', '-pidfile', pidFile)
    await run.until(/ready/)
    t.is(readFileSync(pidFile, 'utf8'), `${run.child.pid}\n`)
    run.child.kill(signal)
    t.like(await run.done, { code: 0, stderr: `qemu-kvm: terminating on signal ${number}\n` })
    t.false(existsSync(pidFile))
  }
  const killed = start(echo(), '-nographic', '-pidfile', pidFile)
  await killed.until(/ready/)
  killed.child.kill('SIGKILL')
  t.like(await killed.done, { signal: 'SIGKILL' })
  const next = start(new GuestCode().powerOff(), '-nographic', '-pidfile', pidFile)
  t.like(await next.done, { code: 0 }, 'the file of a killed process is no obstacle')
})

test.serial('a reader that leaves does not stop the guest', async (t) => {
  const file = join(folder, 'second')
  const code = flood(100_000)
  const run = start(code, '-nographic', '-serial', 'mon:stdio', '-serial', `file:${file}`)
  await run.until(/x/)
  run.child.stdout.destroy()
  const { code: status, stderr } = await run.done
  t.is(status, 0)
  // A host that is busy may let accesses be slow, which the machine mentions, and nothing else.
  t.regex(stderr, /^(?:[^\n]*\d+ accesses to [^\n]+ took more than \d+ ms each, [^\n]+\n)*$/)
})

test.serial('accesses that nothing answers go to the log', async (t) => {
  const log = join(folder, 'log')
  const code = new GuestCode().outb(0x5a5, 1).powerOff()
  const run = start(code, '-display', 'none', '-D', log, '-d', 'guest_errors')
  t.like(await run.done, { code: 0, stderr: '' })
  t.regex(readFileSync(log, 'utf8'), /guest_errors: write of 1 bytes at 0x5a5, a port/)
})

test.serial('what the processor does not have goes to the log', async (t) => {
  const log = join(folder, 'log')
  const msr = [0xb9, 0x67, 0x45, 0x00, 0x00]
  for (const [bytes, expected] of [
    [[...msr, 0x0f, 0x32], 'unimp: cpu 0: the read of MSR 0x4567 is not implemented\n'],
    [
      [...msr, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30],
      'unimp: cpu 0: the write of MSR 0x4567 is not implemented\n',
    ],
    // getsec
    [[0x0f, 0x37], 'unimp: cpu 0: the instruction getsec is not implemented\n'],
    // ud2, which is for that, and the read of EFER
    [[0x0f, 0x0b], ''],
    [[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32], ''],
  ] as const) {
    // A fault that nobody handles resets the machine.
    const code = new GuestCode().raw(...bytes).powerOff()
    const run = start(code, '-display', 'none', '-no-reboot', '-D', log, '-d', 'unimp')
    t.like(await run.done, { code: 0, stderr: '' })
    t.is(readFileSync(log, 'utf8'), expected)
  }
})

test.serial('what cannot start is one line and status 1', async (t) => {
  const text = writeImage(folder, 'text', 'not a kernel\n')
  const cases: [string[], RegExp][] = [
    [['-kernel', text], /text file/],
    [['-kernel', writeImage(folder, 'empty', '')], /empty/],
    [['-kernel', folder], /directory/],
    [['-kernel', '/nonexistent'], /\/nonexistent/],
    [['-kernel', text, '-m', '1000T'], /^qemu-kvm: guest memory of .* is more than/],
    [['-kernel', image(echo()), '-cpu', 'max,+avx9'], /avx9/],
  ]
  for (const [args, message] of cases) {
    const run = command('-nographic', '-accel', 'tcg', ...args)
    run.child.stdin.end()
    const { code, stdout, stderr } = await run.done
    t.regex(stderr, message, args.join(' '))
    t.regex(stderr, /^qemu-kvm: [^\n]*\n$/, args.join(' '))
    t.is(stdout, '', args.join(' '))
    t.is(code, 1, args.join(' '))
  }
})
