import { EventEmitter } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import * as fc from 'fast-check'

import { parseCommand } from '../src/cli/parse.ts'
import { planChardevs } from '../src/cli/char-plan.ts'
import { defaultDisplay } from '../src/cli/default-display.ts'
import { CursesDisplay } from '../src/display/curses-display.ts'
import { TerminalPainter } from '../src/display/curses.ts'
import { keysByName } from '../src/display/keys.ts'
import type { Screen, TextScreen } from '../src/display/screen.ts'
import { keysOfInput } from '../src/display/terminal-keys.ts'
import { RawMode } from '../src/terminal/raw-mode.ts'
import { FakeMachine, monitorOf } from './fixtures/fake-machine.ts'

function textScreen(rows: readonly string[], cursor?: TextScreen['cursor']): TextScreen {
  const columns = 10
  const cells = new Uint8Array(columns * rows.length * 2)
  for (const [row, text] of rows.entries()) {
    for (let column = 0; column < columns; column++) {
      cells[(row * columns + column) * 2] = text.charCodeAt(column) || 0x20
      cells[(row * columns + column) * 2 + 1] = 0x1c
    }
  }
  return { kind: 'text', columns, rows: rows.length, cells, cursor }
}

test('painter: only what has changed is drawn, in the colours of the PC', (t) => {
  const painter = new TerminalPainter(() => ({ columns: 80, rows: 25 }))
  const first = painter.paint(textScreen(['one', 'two'], { row: 1, column: 3 }))
  t.true(first.includes('\u001b[0;91;44mone'), 'light red on blue')
  t.true(first.endsWith('\u001b[2;4H\u001b[?25h'))
  const second = painter.paint(textScreen(['one', 'too']))
  t.false(second.includes('one'))
  t.true(second.includes('\u001b[2;1H'))
  t.true(second.endsWith('\u001b[?25l'))
  t.is(painter.paint(textScreen(['one', 'too'])), '', 'nothing has changed')
  t.regex(painter.paint({ kind: 'graphics', width: 640, height: 480 }), /640 x 480 Graphic mode/)
  t.is(painter.paint({ kind: 'graphics', width: 640, height: 480 }), '')
  t.regex(painter.paint({ kind: 'off' }), /off/)
})

test('painter: a screen that is larger than the terminal is cut, and controls are symbols', (t) => {
  const painter = new TerminalPainter(() => ({ columns: 4, rows: 1 }))
  const output = painter.paint(textScreen(['\u001b[2Jxyz', 'below'], { row: 1, column: 0 }))
  t.true(output.includes('←[2J'))
  t.false(output.includes('x'))
  t.false(output.includes('below'))
})

test('terminal: bytes become keys of a PC', (t) => {
  t.deepEqual(keysOfInput('aB\r'), [['a'], ['shift', 'b'], ['ret']])
  t.deepEqual(keysOfInput('\u001b[A\u001bOP\u001b[3~'), [['up'], ['f1'], ['delete']])
  t.deepEqual(keysOfInput('\u001b'), [['esc']])
  t.deepEqual(keysOfInput('\u001bx'), [['alt', 'x']])
  t.deepEqual(keysOfInput('\u001b[99;5uq'), [['q']], 'an unknown sequence is nothing')
  t.deepEqual(keysOfInput('\u0003é'), [['ctrl', 'c']])
  fc.assert(
    fc.property(fc.string(), (input) => {
      for (const keys of keysOfInput(input)) keysByName(keys)
    }),
  )
})

test('curses: the terminal shows the machine, types on it, and is left as it was', async (t) => {
  const machine = new FakeMachine()
  let screen: Screen = textScreen(['hello'])
  const input = Object.assign(new EventEmitter(), { pause() {}, resume() {} })
  let written = ''
  const output = Object.assign(new EventEmitter(), {
    write(chunk: Uint8Array) {
      written += Buffer.from(chunk).toString()
      return true
    },
  })
  let quits = 0
  const display = new CursesDisplay({
    machine: {
      sendKeys: (keys, holdMs) => machine.sendKeys(keys, holdMs),
      screenState: async () => screen,
    },
    input,
    output,
    raw: new RawMode({}),
    size: () => ({ columns: 80, rows: 25 }),
    escapeCode: 1,
    onQuit: () => quits++,
  })
  const until = async (text: string): Promise<void> => {
    while (!written.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await until('hello')
  screen = textScreen(['world'])
  await until('world')
  input.emit('data', Buffer.from('y\u0001\u0001\u0001x'))
  input.emit('data', Buffer.from('z\u0001\u0001'))
  t.is(quits, 1)
  t.deepEqual(machine.calls, ['keys z 20', 'keys ctrl a 20'])
  display.close()
  t.true(written.endsWith('\u001b[0m\u001b[?25h\u001b[?1049l'))
})

test('curses: the terminal has one user', (t) => {
  const plan = (...argv: string[]): void => {
    const command = parseCommand(['-kernel', 'k', '-display', 'curses', ...argv])
    if (command.kind === 'print') throw new Error(command.text)
    planChardevs(command.settings)
  }
  t.notThrows(() => plan())
  t.throws(() => plan('-nographic'), { message: /-nographic/ })
  t.throws(() => plan('-daemonize'), { message: /-daemonize/ })
  t.throws(() => plan('-serial', 'stdio'), { message: /cannot use stdio/ })
})

test('monitor: screendump and sendkey', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'screendump-'))
  const machine = new FakeMachine()
  const run = monitorOf(machine)
  t.is(await run(`screendump ${folder}/a`), '')
  t.is(readFileSync(`${folder}/a`, 'latin1'), 'P6\n1 1\n255\n\x01\x02\x03')
  t.is(await run(`screendump ${folder}/b -f png`), '')
  t.is(readFileSync(`${folder}/b`).toString('latin1', 1, 4), 'PNG')
  t.regex(await run(`screendump ${folder}/c -f bmp`), /ppm or png/)
  t.regex(await run(`screendump ${folder}/none/c`), /failed to open file/)
  t.regex(await run('screendump'), /filename expected/)
  t.is(await run('sendkey ctrl-alt-delete'), '')
  t.is(await run('sendkey a 5'), '')
  t.deepEqual(machine.calls, ['keys ctrl alt delete 100', 'keys a 5'])
  t.regex(await run('sendkey hyper'), /no key 'hyper'/)
  t.regex(await run('sendkey a forever'), /hold_ms/)
  rmSync(folder, { recursive: true })
})

test('display: without -display the terminal shows the screen, if it is free', (t) => {
  const shown = (terminal: boolean, ...argv: string[]): string => {
    const command = parseCommand(argv)
    if (command.kind !== 'run') throw new Error('not a machine')
    const { display, note } = defaultDisplay(
      command.settings,
      planChardevs(command.settings),
      terminal,
    )
    return note === undefined ? display : `${display}, and says so`
  }
  const disk = ['-m', '2048', '-drive', 'file=disk.qcow2,if=virtio']
  t.is(shown(true, ...disk), 'curses')
  t.is(shown(false, ...disk), 'none, and says so')
  t.is(shown(true, ...disk, '-nographic'), 'none')
  t.is(shown(true, ...disk, '-display', 'none'), 'none')
  t.is(shown(true, ...disk, '-serial', 'stdio'), 'none', 'the serial port has the terminal')
  t.is(shown(true, ...disk, '-monitor', 'stdio'), 'none')
  t.is(shown(true, ...disk, '-daemonize'), 'none')
  t.is(shown(false, ...disk, '-display', 'curses'), 'curses', 'which is refused then')
  t.is(shown(true, '-machine', 'none'), 'none')
})

test('a word that is no option is the first disk', (t) => {
  const command = parseCommand(['machine', '-m', '64', '-machine', 'q35', 'a,b.img'].slice(1))
  if (command.kind !== 'run') throw new Error('not a machine')
  const { drives, machine } = command.settings
  t.is(machine, 'q35')
  t.deepEqual(
    drives.filter(({ file }) => file !== undefined).map(({ file }) => file),
    ['a,b.img'],
  )
  t.throws(() => parseCommand(['one.img', 'two.img']), { message: /index=0|exists|taken/ })
  t.throws(() => parseCommand(['']), { message: /invalid option/ })
})
