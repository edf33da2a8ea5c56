// Several machines in one process, and what happens when parts of it fail or are ended while guests run.
import { readFileSync, readdirSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { VirtualMachine, VmmError } from 'qemu-vmm'
import { GuestProcess, bootArguments, bootTimeoutMs, command, guestFiles } from '../src/guest.ts'
import { root } from '../src/program.ts'

const { kernel, initrd } = guestFiles
const config = { memory: 96 << 20, kernel, initrd, append: 'console=ttyS0 quiet' } as const
const wait = { timeoutMs: 2 * bootTimeoutMs }

/** vCPU threads of this process. */
function vcpuThreads(): number {
  return readdirSync('/proc/self/task').filter((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, 'latin1').startsWith('kvm-vcpu')
    } catch {
      return false
    }
  }).length
}

async function threadsEnd(): Promise<number> {
  for (let i = 0; i < 100 && vcpuThreads() > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return vcpuThreads()
}

test.serial(
  'five machines in one process, two of them on this isolate, boot side by side',
  async (t) => {
    const hosts = ['inline', 'worker', 'inline', 'worker', 'worker'] as const
    const machines = await Promise.all(
      hosts.map((host) => VirtualMachine.start({ ...config, host })),
    )
    t.is(vcpuThreads(), 5)
    const ends = machines.map(async (vm, i) => {
      await vm.expect(/ # /, wait)
      vm.type(`echo machine $((${i} + 10))\n`)
      await vm.expect(`machine ${i + 10}\r\n`, wait)
      vm.type('poweroff -f\n')
      return (await vm.exited).reason
    })
    t.deepEqual(
      await Promise.all(ends),
      Array.from(hosts, () => 'shutdown'),
    )
    t.is(await threadsEnd(), 0)
  },
)

for (const [host, value, code, message] of [
  ['inline', 1, 'E_DEVICE_FAULT', /thrown in a handler/],
  ['worker', 1, 'E_DEVICE_FAULT', /thrown in a handler/],
  ['worker', 2, 'E_WORKER_DIED', /thrown later/],
  ['worker', 3, 'E_WORKER_DIED', /exit code 7/],
] as const) {
  const way = ['', 'throws in a handler', 'throws later', 'ends its isolate'][value]
  test.serial(`${host}: Linux stands with a typed error when a device ${way}`, async (t) => {
    const devices = [new URL('../src/programs/breaking-device.mjs', import.meta.url)]
    const vm = await VirtualMachine.start({ ...config, host, devices, log: () => {} })
    await vm.expect(/ # /, wait)
    vm.type(`devmem 0xd0000000 32 ${value}\n`)
    const { reason, error } = await vm.exited
    t.is(reason, 'error')
    t.true(error instanceof VmmError)
    t.is((error as VmmError).code, code)
    t.regex(error?.message ?? '', message)
    await vm.quit()
    t.is(await threadsEnd(), 0)
  })
}

test.serial('a worker that owns a machine can be ended while the guest runs', async (t) => {
  const worker = new Worker(new URL('../src/programs/machine-worker.mjs', import.meta.url), {
    workerData: { kernel, initrd },
    execArgv: [],
  })
  await new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  t.is(vcpuThreads(), 1)
  t.is(await worker.terminate(), 1)
  t.is(await threadsEnd(), 0)
})

for (const host of ['inline', 'worker']) {
  test.serial(`${host}: a program that throws ends, with its machine`, async (t) => {
    const tsx = `${root}node_modules/.bin/tsx`
    const program = new GuestProcess(tsx, ['e2e/src/programs/throws.ts', host])
    const { code, signal } = await program.end()
    t.deepEqual({ code, signal }, { code: 1, signal: null }, program.stderr)
    t.regex(program.stderr, /RangeError: a fault of the program/)
  })
}

test.serial('signals end the command as they end QEMU', async (t) => {
  for (const [signal, number] of [
    ['SIGTERM', 15],
    ['SIGINT', 2],
    ['SIGHUP', 1],
  ] as const) {
    const guest = new GuestProcess(command, bootArguments())
    await guest.expect(/./)
    guest.child.kill(signal)
    t.deepEqual(await guest.end(60_000), { code: 0, signal: null }, guest.stderr)
    t.regex(guest.stderr, new RegExp(`terminating on signal ${number}`))
  }
  const guest = new GuestProcess(command, bootArguments({ append: 'earlyprintk=serial' }))
  await guest.expect(/./)
  guest.child.kill('SIGKILL')
  t.deepEqual(await guest.end(60_000), { code: null, signal: 'SIGKILL' })
})
