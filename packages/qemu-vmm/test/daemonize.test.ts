import { spawnSync } from 'node:child_process'
import type { SpawnSyncReturns } from 'node:child_process'
import { existsSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

// The command as it is installed: the worker of the devices exists only in the built package.
const COMMAND = fileURLToPath(new URL('../bin/qemu-kvm.cjs', import.meta.url))
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))
const kernel = writeImage(folder, 'kernel', multiboot(new GuestCode().print('up').halt().bytes()))

function run(...args: string[]): SpawnSyncReturns<string> {
  const machine = ['-m', '16', '-accel', 'tcg', '-kernel', kernel, '-daemonize', ...args]
  return spawnSync(process.execPath, [COMMAND, ...machine], { cwd: folder, encoding: 'utf8' })
}

async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 20))
}

test.serial('the command ends when the machine is set up, and the machine stays', async (t) => {
  const socket = join(folder, 'monitor')
  const { status, stdout, stderr } = run(
    '-display',
    'none',
    '-pidfile',
    'pid',
    '-serial',
    'file:serial',
    '-monitor',
    'unix:monitor,server=on,wait=off',
  )
  t.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' })
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'))
  t.true(pid > 1)
  for (const fd of [0, 1, 2]) t.is(readlinkSync(`/proc/${pid}/fd/${fd}`), '/dev/null')
  t.is(readlinkSync(`/proc/${pid}/cwd`), '/')
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  t.is(Number(stat[3]), pid, 'it leads a session of its own')
  while (readFileSync(join(folder, 'serial'), 'utf8') !== 'up') {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  connect(socket)
    .on('error', () => {})
    .end('quit\n')
  await gone(pid)
  t.false(existsSync(join(folder, 'pid')))
  t.false(existsSync(socket))
})

test.serial('a signal ends the machine in order', async (t) => {
  t.is(run('-display', 'none', '-pidfile', 'pid').status, 0)
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'))
  process.kill(pid, 'SIGTERM')
  await gone(pid)
  t.false(existsSync(join(folder, 'pid')))
})

test.serial('what goes wrong before is said by the command, with status 1', (t) => {
  const cases: [string[], RegExp][] = [
    [['-nographic'], /^qemu-kvm: -nographic cannot be used with -daemonize\n$/],
    [
      ['-display', 'none', '-serial', 'stdio'],
      /^qemu-kvm: -serial stdio: cannot use stdio with -daemonize\n$/,
    ],
    [
      ['-display', 'none', '-chardev', 'stdio,id=a'],
      /^qemu-kvm: -chardev stdio,id=a: cannot use stdio with -daemonize\n$/,
    ],
    [['-display', 'none', '-cpu', 'max,+avx9'], /^qemu-kvm: .*avx9.*\n$/],
    [['-display', 'none', '-serial', 'file:/nonexistent/x'], /^qemu-kvm: .*No such file.*\n$/],
    [['-display', 'none', '-pidfile', '/nonexistent/x'], /cannot create PID file/],
  ]
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(...args)
    t.regex(stderr, message, args.join(' '))
    t.deepEqual({ status, stdout }, { status: 1, stdout: '' }, args.join(' '))
  }
})
