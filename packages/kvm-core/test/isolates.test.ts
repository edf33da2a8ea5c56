import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

import test from 'ava'

import { type DeviceHost, KVM_RUN } from '../src/index.ts'
import { type Assembler, Reg } from '../src/testing/index.ts'
import { eventually, guest } from './guest.ts'

const fixture = (name: string): URL => new URL(`fixtures/${name}`, import.meta.url)

/** Next message of a worker that has all of `keys`. */
function message(worker: Worker, key: string): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    worker.on('error', reject)
    worker.on('message', (value: Record<string, unknown>) => {
      if (key in value) resolve(value)
    })
  })
}

/** Names of this process's native threads that belong to VMs. */
function vmThreads(): string[] {
  return readdirSync('/proc/self/task').flatMap((task) => {
    try {
      const name = readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim()
      return name.startsWith('kvm-') ? [name] : []
    } catch {
      return []
    }
  })
}

/** Reads port 0x98 a hundred times, adding up, then asks port 0x99. */
const program = (a: Assembler): Assembler =>
  a
    .movImm(Reg.cx, 100)
    .movImm(Reg.bx, 0)
    .label('x')
    .db(0xe4, 0x98) // in al, 0x98
    .db(0x88, 0xc2, 0xb6, 0x00) // mov dl, al; mov dh, 0
    .db(0x01, 0xd3) // add bx, dx
    .loop('x')
    .db(0xe4, 0x99) // in al, 0x99
    .label('end')
    .jmp('end')

test.serial('devices live in a worker', async (t) => {
  const { vm, vcpu } = guest(t, 16, program)
  vm.memory.write(0x3000, Uint8Array.of(5))
  const worker = new Worker(fixture('host-worker.mjs'), {
    workerData: { id: vm.id, answer: true },
  })
  await message(worker, 'ready')
  t.throws(() => vm.createDeviceHost(() => undefined), { code: 'EBUSY' })
  const done = message(worker, 'served')
  vcpu.start()
  t.is((await done)['served'], 101)
  await vcpu.pause()
  let sum = 0
  for (let i = 1; i <= 100; i++) sum += 5 + i
  t.is(vcpu.getRegs()[1], BigInt(sum))
  // The worker's doorbell held it alive; closing the VM lets it end by itself.
  const ended = new Promise((resolve) => worker.on('exit', resolve))
  await vm.close()
  t.is(await ended, 0)
})

test.serial('a worker that is terminated in the middle of an exit is replaced', async (t) => {
  const { vm, vcpu, run } = guest(t, 16, program)
  const worker = new Worker(fixture('host-worker.mjs'), {
    workerData: { id: vm.id, answer: false },
  })
  await message(worker, 'ready')
  const done = message(worker, 'served')
  vcpu.start()
  await done
  await worker.terminate()
  t.is(vcpu.state, 'exit')
  const answered = new Promise<void>((resolve) => {
    const host: DeviceHost = vm.createDeviceHost(() => {
      host.serve({
        exit() {
          t.is(run.getUint16(KVM_RUN.ioPort, true), 0x99)
          run.setUint8(KVM_RUN.pioData, 0x77)
          resolve()
        },
      })
    })
  })
  await answered
  await vcpu.pause()
  t.is(Number(vcpu.getRegs()[0]) & 0xff, 0x77)
})

test.serial('a worker that ends takes its VMs with it', async (t) => {
  for (const how of ['spin', 'pending', 'exit']) {
    const worker = new Worker(fixture('spinning-vm.mjs'), { workerData: how })
    const ended = new Promise((resolve) => worker.on('exit', resolve))
    if (how === 'exit') {
      t.is(await ended, 7)
    } else {
      const started = await message(worker, 'started')
      t.is(started['waits'], how === 'pending')
      t.true(vmThreads().length >= 4)
      await worker.terminate()
    }
    await eventually('no thread of a VM', () => vmThreads().length === 0)
  }
})

test.serial('a process ends with running vCPUs, however it ends', async (t) => {
  const outcome = (how: string): Promise<{ code: number | null; text: string; ms: number }> =>
    new Promise((resolve) => {
      const start = performance.now()
      const child = spawn(process.execPath, [fileURLToPath(fixture('spinning-vm.mjs')), how])
      let text = ''
      child.stderr.on('data', (data: Buffer) => (text += data.toString()))
      child.on('close', (code) => resolve({ code, text, ms: performance.now() - start }))
    })
  const [exit, thrown, closed] = await Promise.all(['exit', 'throw', 'close'].map(outcome))
  t.is(exit?.code, 7, exit?.text)
  t.is(thrown?.code, 1)
  t.regex(thrown?.text ?? '', /a device is broken/)
  t.is(closed?.code, 0, closed?.text)
})

test.serial('VMs leave no descriptor, thread or memory behind', async (t) => {
  const life = async (touch: boolean): Promise<void> => {
    const { vm, vcpu } = guest(t, 16, (a) => a.inImm8(1).label('x').jmp('x'), { irqchip: true })
    const ram = vm.createRam({ size: 16 << 20 })
    vm.setUserMemoryRegion({ slot: 1, gpa: 1 << 24, size: ram.size, ram, flags: 1 })
    if (touch) new Uint8Array(ram.segment(0)).fill(1)
    vm.irqfd(3, { resample: true, onResample: () => undefined })
    void vm.irqfd(4).fd
    vm.ioeventfd({ addr: 0x1_0000_0000, len: 4 }, 1)
    const host = vm.createDeviceHost(() => {
      host.serve({ exit: () => undefined })
    })
    vcpu.start()
    await eventually('running', () => vcpu.stats().exits === 1)
    await vm.close()
    t.is(host.control.length, 0)
  }
  const count = (): number[] => [
    readdirSync('/proc/self/fd').length,
    readdirSync('/proc/self/task').length,
  ]
  for (let i = 0; i < 5; i++) await life(true)
  const before = count()
  const rss = process.memoryUsage.rss()
  for (let i = 0; i < 100; i++) await life(true)
  t.deepEqual(count(), before)
  const grown = (process.memoryUsage.rss() - rss) / 2 ** 20
  t.log(`100 VMs of 17 MiB grew the process by ${grown.toFixed(1)} MiB`)
  t.true(grown < 40)
})

test.serial('a further VM costs little beside its RAM', async (t) => {
  const make = (): void => {
    const { vm, vcpu } = guest(t, 16, (a) => a.cli().hlt(), { irqchip: true })
    vm.createPit2()
    const big = vm.createRam({ size: 512 << 20 })
    vm.setUserMemoryRegion({ slot: 1, gpa: 1 << 30, size: big.size, ram: big })
    vm.createDeviceHost(() => undefined)
    vcpu.start()
  }
  make()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const before = process.memoryUsage.rss()
  for (let i = 0; i < 8; i++) make()
  await new Promise((resolve) => setTimeout(resolve, 100))
  const each = (process.memoryUsage.rss() - before) / 8
  t.log(`${(each / 2 ** 20).toFixed(2)} MiB per VM with 512 MiB of untouched RAM`)
  t.true(each < 12 * 2 ** 20)
})
