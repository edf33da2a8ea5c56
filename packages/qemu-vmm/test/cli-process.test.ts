import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { Running, childOf, stopped } from './fixtures/running.ts'
import type { Outcome } from './fixtures/running.ts'

const COMMAND = fileURLToPath(new URL('fixtures/command-process.ts', import.meta.url))
const TERMINAL = fileURLToPath(new URL('fixtures/terminal-process.ts', import.meta.url))
const SCRIPT = '/usr/bin/script'

function node(file: string, args: readonly string[]): Running {
  return new Running(process.execPath, ['--import', 'tsx', file, ...args])
}

/** Runs a shell line with a terminal of its own. */
function terminal(line: string): Running {
  return new Running(SCRIPT, ['-qec', line, '/dev/null'])
}

const quote = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ')
const fixture = (...args: string[]): string =>
  quote([process.execPath, '--import', 'tsx', TERMINAL, ...args])

async function refuse(args: readonly string[]): Promise<Outcome> {
  const run = node(COMMAND, args)
  run.child.stdin.end()
  return run.done
}

test.serial('what the user got wrong is one line and status 1', async (t) => {
  const boot = ['-nographic', '-kernel', 'none']
  const cases: [string[], RegExp][] = [
    [['-foo'], /^qemu-kvm: -foo: invalid option/],
    [['-m', '0', ...boot], /^qemu-kvm: -m 0: invalid RAM size/],
    [['-m', '900G', ...boot], /^qemu-kvm: guest memory of .* is more than/],
    [[...boot, '-D', '/nonexistent/log'], /^qemu-kvm: Error opening logfile .*: No such file/],
    [
      [...boot, '-serial', 'file:/nonexistent/x', '-monitor', 'none'],
      /^qemu-kvm: -serial file:\/nonexistent\/x: Could not open '\/nonexistent\/x': No such file/,
    ],
    [
      [...boot, '-pidfile', '/nonexistent/pid'],
      /^qemu-kvm: cannot create PID file: Could not create '\/nonexistent\/pid': No such file/,
    ],
  ]
  for (const [args, message] of cases) {
    const { code, stderr, stdout } = await refuse(args)
    t.regex(stderr, message, args.join(' '))
    t.regex(stderr, /^[^\n]*\n$/, args.join(' '))
    t.is(stdout, '', args.join(' '))
    t.is(code, 1, args.join(' '))
  }
})

test.serial(
  '-help and -version answer without a machine, also to a reader that leaves',
  async (t) => {
    const version = await refuse(['--version'])
    t.regex(version.stdout, /QEMU emulator version 7\.2\.\d+\n$/)
    t.is(version.code, 0)
    const help = node(COMMAND, ['-help'])
    help.child.stdout.destroy()
    const { code, stderr } = await help.done
    t.is(stderr, '')
    t.is(code, 0)
  },
)

test.serial('without a terminal: a pipe, nothing, a reader that leaves', async (t) => {
  const pipe = node(TERMINAL, ['-nographic'])
  pipe.child.stdin.end('ab\x01cinfo name\nquit\n')
  const first = await pipe.done
  t.regex(first.stdout, /<61><62>/)
  t.regex(first.stdout, /\(qemu\) info name\r\nfake\r\n.*end: monitor/s)
  t.is(first.code, 0)

  const none = new Running('/bin/sh', ['-c', `${fixture('-nographic')} <&-`])
  await none.until(/READY/)
  const pid = none.child.pid ?? 0
  t.true(existsSync(`/proc/${pid}`), 'a machine runs on without input')
  process.kill(childOf(pid) || pid, 'SIGTERM')
  t.regex((await none.done).stdout, /end: signal 15/)

  const leaving = node(TERMINAL, ['-nographic'])
  await leaving.until(/READY/)
  leaving.child.stdout.destroy()
  leaving.child.stdin.write('~~~')
  leaving.child.stdin.end('\x01x')
  t.is((await leaving.done).code, 0)
})

const pty = existsSync(SCRIPT) ? test.serial : test.serial.skip

pty('a terminal is raw while the machine runs, and put back at every end', async (t) => {
  const ends: [string, string, RegExp][] = [
    ['Ctrl-A x', '\x03\x1a\x01x', /<3><1a>.*terminated from the keyboard.*end: quit/s],
    ['the monitor', '\x01cquit\r', /\(qemu\) quit.*end: monitor/s],
    ['a handler that throws', '!', /a handler failed/],
    ['a promise that nobody catches', '$', /nobody caught this/],
    ['nothing left to do', '.', /<2e>/],
  ]
  for (const [name, keys, shown] of ends) {
    const run = terminal(`stty -g; ${fixture('-nographic')}; stty -g`)
    await run.until(/READY/)
    run.child.stdin.write(keys)
    if (name === 'nothing left to do') {
      await run.until(shown)
      run.child.stdin.write('\x01x')
    }
    const { stdout } = await run.done
    t.regex(stdout, shown, name)
    const modes = stdout.match(/^[0-9a-f]+(:[0-9a-f]+){5,}/gm) ?? []
    t.is(modes.length, 2, name)
    t.is(modes[0], modes[1], name)
  }
})

pty('Ctrl-C ends the process where the terminal belongs to the guest alone', async (t) => {
  const run = terminal(
    `stty -g; ${fixture('-nographic', '-serial', 'stdio', '-monitor', 'none')}; stty -g`,
  )
  await run.until(/READY/)
  run.child.stdin.write('a\x01x')
  await run.until(/<78>/)
  run.child.stdin.write('\x03')
  const { stdout } = await run.done
  t.regex(stdout, /<61><1><78>.*end: signal 2/s)
  const modes = stdout.match(/^[0-9a-f]+(:[0-9a-f]+){5,}/gm) ?? []
  t.is(modes[0], modes.at(-1))
})

pty('a suspended process gives the terminal back, and takes it again', async (t) => {
  const run = terminal(`echo tty=$(tty); stty -g; exec ${fixture('-nographic')}`)
  const [, device = ''] = await run.until(/tty=(\S+)/)
  const [found = ''] = await run.until(/[0-9a-f]+(:[0-9a-f]+){5,}/)
  await run.until(/READY/)
  const pid = childOf(run.child.pid ?? 0)
  const mode = async (): Promise<string> => {
    const stty = new Running('stty', ['-g', '-F', device])
    return (await stty.done).stdout.trim()
  }
  const script = run.child.pid ?? 0
  t.teardown(() => {
    for (const each of [pid, script]) if (existsSync(`/proc/${each}`)) process.kill(each, 'SIGKILL')
  })
  const becomes = async (check: (now: string) => boolean): Promise<boolean> => {
    for (let i = 0; i < 200; i++) {
      if (check(await mode())) return true
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return false
  }
  t.not(await mode(), found)
  process.kill(pid, 'SIGTSTP')
  t.true(await becomes((now) => now === found))
  // script(1) stops together with its child, and wakes the child when it goes on itself.
  await stopped(script)
  process.kill(script, 'SIGCONT')
  t.true(await becomes((now) => now !== found))
  run.child.stdin.write('\x01x')
  t.regex((await run.done).stdout, /end: quit/)
})
