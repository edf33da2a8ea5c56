// State saved while Linux boots, at points that nobody chose, goes on in other machines and other processes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serialize } from 'node:v8'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import { bootTimeoutMs, guestFiles } from '../src/guest.ts'
import { root, runProgram } from '../src/program.ts'
import { seeded } from '../src/random.ts'
import { checkResumed, savedMachine } from '../src/resumed.ts'

const { kernel, initrd } = guestFiles
const config = { ...savedMachine, kernel, initrd }
const points = 10

/** Seconds that a boot to the shell takes on this machine, now. */
async function bootSeconds(): Promise<number> {
  await using vm = await VirtualMachine.start(config)
  const start = performance.now()
  await vm.expect(/up after [^]* # /, { timeoutMs: bootTimeoutMs })
  return (performance.now() - start) / 1000
}

test.serial(
  `a boot saved at ${points} random points goes on to the shell in a new machine`,
  async (t) => {
    t.timeout(1_800_000)
    const random = seeded(20_240_229)
    const span = await bootSeconds()
    const fractions = Array.from({ length: points }, () => 0.01 + 0.95 * random())
    const folder = mkdtempSync(join(tmpdir(), 'e2e-snapshot-'))
    await using vm = await VirtualMachine.start(config)
    try {
      let atShell = false
      const prompt = vm.expect(/up after [^]* # /, { timeoutMs: 1_800_000 })
      const prompted = prompt.then(() => (atShell = true))
      prompted.catch(() => {})
      let ran = 0
      for (const [i, fraction] of fractions.toSorted((a, b) => a - b).entries()) {
        await new Promise((resolve) => setTimeout(resolve, (fraction - ran) * span * 1000))
        ran = fraction
        // Every other time the machine runs while its state is asked for.
        if (i % 2 === 0) await vm.pause()
        const state = await vm.saveState()
        const savedAtShell = atShell
        if (i % 2 === 1) await vm.pause()
        const seconds = state.clockNs / 1e9
        t.log(
          `saved after ${seconds.toFixed(2)} s of guest time, ${state.ram.length} runs of pages`,
        )
        if (i === 4) {
          const file = join(folder, 'state')
          writeFileSync(file, serialize(state))
          const args = ['e2e/src/programs/resume.ts', file, String(savedAtShell), String(seconds)]
          const { code, stdout, stderr } = await runProgram(`${root}node_modules/.bin/tsx`, args)
          t.is(code, 0, stdout + stderr)
        } else {
          await using other = new VirtualMachine({ ...config, startPaused: true })
          await other.start()
          await other.loadState(state)
          await other.resume()
          t.is(await checkResumed(other, savedAtShell, seconds), undefined)
        }
        await vm.resume()
      }
      // The machine that was stopped ten times has not noticed either.
      const clock = (await vm.saveState()).clockNs / 1e9
      // What was waited for once is not found again: whoever waits first has it.
      await prompted
      t.is(await checkResumed(vm, true, clock), undefined)
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)

test.serial(
  'a state saved between the last message and the prompt goes on to the shell',
  async (t) => {
    await using vm = await VirtualMachine.start(config)
    await vm.expect(/up after/, { timeoutMs: bootTimeoutMs })
    const state = await vm.saveState()
    await using other = new VirtualMachine({ ...config, startPaused: true })
    await other.start()
    await other.loadState(state)
    await other.resume()
    t.is(await checkResumed(other, false, state.clockNs / 1e9), undefined)
  },
)

test.serial('states of another machine, and damaged ones, are refused', async (t) => {
  await using vm = await VirtualMachine.start({ ...config, startPaused: true })
  const state = await vm.saveState()
  await t.throwsAsync(vm.loadState({ ...state, memory: 64 << 20 }), { code: 'E_STATE' })
  await t.throwsAsync(vm.loadState({ ...state, version: 99 }), { code: 'E_STATE' })
  const ram = [{ offset: 128 << 20, data: new Uint8Array(4096) }]
  await t.throwsAsync(vm.loadState({ ...state, ram }), { code: 'E_STATE' })
  await vm.reset()
  await vm.loadState(state)
  await vm.resume()
  await vm.expect('Linux version', { timeoutMs: bootTimeoutMs })
})
