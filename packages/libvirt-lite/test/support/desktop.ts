// A screen that nobody looks at, and programs on it that are used through the interface for people who cannot see it (AT-SPI).
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { PYTHON } from './clients.ts'
import { until } from './daemon.ts'

const DRIVER = fileURLToPath(new URL('desktop.py', import.meta.url))
const ATSPI = "import gi; gi.require_version('Atspi', '2.0'); from gi.repository import Atspi"

const runs = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { stdio: 'ignore' }).error === undefined

/** What of a desktop is not installed. */
export function missingDesktop(): string | undefined {
  if (!runs('Xvfb', '-help')) return 'Xvfb'
  if (!runs('dbus-run-session', '--version')) return 'dbus-run-session'
  return spawnSync(PYTHON, ['-c', ATSPI]).status === 0 ? undefined : 'gir1.2-atspi-2.0'
}

/** What can be seen: its role in the interface, and its name. */
export type Widget = readonly [role: string, name: string]

/** A program on a screen of its own. */
export class DesktopProgram {
  readonly #driver: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #screen: string
  readonly #said: Promise<string>

  private constructor(driver: ChildProcess, screen: string) {
    this.#driver = driver
    this.#screen = screen
    this.#answers = createInterface({ input: driver.stdio[3] as Readable })[Symbol.asyncIterator]()
    this.#said = text(driver.stderr!)
  }

  /** Starts a program in a folder that is its user's; both end with the test. */
  static async start(
    t: ExecutionContext,
    at: string,
    command: readonly string[],
  ): Promise<DesktopProgram> {
    const folders = ['home', 'run', 'screen'].map((name) => join(at, name))
    for (const path of folders) mkdirSync(path, { mode: 0o700 })
    const [home, run, screen] = folders as [string, string, string]
    const args = [
      '-displayfd',
      '3',
      '-screen',
      '0',
      '1024x768x24',
      '-nolisten',
      'tcp',
      '-fbdir',
      screen,
    ]
    const server = spawn('Xvfb', args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] })
    // Also when what follows fails.
    t.teardown(() => ends(server))
    const [number] = (await once(server.stdio[3]!, 'data')) as [Buffer]
    const driver = spawn('dbus-run-session', ['--', PYTHON, DRIVER, ...command], {
      // Services of the session write on its output.
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
      env: {
        PATH: '/usr/local/bin:/usr/bin:/bin',
        LC_ALL: 'C.UTF-8',
        HOME: home,
        XDG_RUNTIME_DIR: run,
        DISPLAY: `:${number.toString().trim()}`,
        GDK_BACKEND: 'x11',
      },
    })
    const program = new DesktopProgram(driver, join(screen, 'Xvfb_screen0'))
    t.teardown(() => program.end())
    return program
  }

  /** Ends the program. @returns all that it wrote on its standard error */
  async end(): Promise<string> {
    const driver = this.#driver
    if (driver.exitCode === null && driver.signalCode === null) {
      const ended = once(driver, 'exit')
      // Its end is that of the program and of the session's other processes, in this order.
      driver.stdin!.end()
      const timer = setTimeout(() => driver.kill('SIGKILL'), 5000)
      await ended
      clearTimeout(timer)
    }
    return this.#said
  }

  async #ask<T>(...command: string[]): Promise<T> {
    this.#driver.stdin!.write(`${JSON.stringify(command)}\n`)
    const { value, done } = await this.#answers.next()
    if (done === true) throw new Error(`the desktop has ended: ${await this.#said}`)
    return JSON.parse(value) as T
  }

  async widgets(): Promise<Widget[]> {
    const seen = await this.#ask<Widget[] | { error: string }>('see')
    return Array.isArray(seen) ? seen : []
  }

  /** Waits until there is a widget with such a name. */
  async see(role: string, name: RegExp): Promise<void> {
    await this.#wait(`no ${role} ${name}`, async () =>
      (await this.widgets()).some((widget) => widget[0] === role && name.test(widget[1])),
    )
  }

  /** Has a widget do what it is for. */
  async press(role: string, name: string): Promise<void> {
    await this.#wait(
      `no ${role} '${name}' to press`,
      async () => (await this.#ask('press', role, name)) === true,
    )
  }

  /** Clicks on the middle of a widget. */
  async click(role: string, name: string): Promise<void> {
    await this.#wait(
      `no ${role} '${name}' to click on`,
      async () => (await this.#ask('click', role, name)) === true,
    )
  }

  async #wait(without: string, what: () => Promise<boolean>): Promise<void> {
    try {
      await until(what)
    } catch (error) {
      const all = (await this.widgets()).map((widget) => widget.join(' '))
      throw new Error(`there is ${without} among: ${all.join('; ')}`, { cause: error })
    }
  }

  /** The text of its terminals. */
  async terminals(): Promise<string[]> {
    const texts = await this.#ask<string[] | { error: string }>('read')
    return Array.isArray(texts) ? texts : []
  }

  /** What is on its screen. */
  screen(): Screen {
    // XWD, version 7: a header of its own length, colour maps of 12 bytes each, and lines of pixels of 32 bits.
    const dump = readFileSync(this.#screen)
    const word = (index: number): number => dump.readUInt32BE(index * 4)
    const [header, width, height, lineBytes, maps] = [0, 4, 5, 12, 19].map(word) as [
      number,
      number,
      number,
      number,
      number,
    ]
    const start = header + maps * 12
    const rgb = Buffer.alloc(width * height * 3)
    for (let at = 0; at < width * height; at++) {
      const y = Math.floor(at / width)
      const pixel = dump.readUInt32LE(start + y * lineBytes + (at - y * width) * 4)
      rgb.writeUIntBE(pixel & 0xffffff, at * 3, 3)
    }
    return { width, height, rgb }
  }
}

/** Pixels of three bytes: red, green, blue. */
export interface Screen {
  readonly width: number
  readonly height: number
  readonly rgb: Buffer
}

/** How many colours it has: one, as long as nothing is shown. */
export function coloursOf({ rgb }: Screen): number {
  const found = new Set<number>()
  for (let at = 0; at < rgb.length; at += 3) found.add(rgb.readUIntBE(at, 3))
  return found.size
}

/** An image that most programs can show (PPM). */
export const imageOf = ({ width, height, rgb }: Screen): Buffer =>
  Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), rgb])

async function ends(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
