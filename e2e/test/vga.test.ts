import { inflateSync } from 'node:zlib'

import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'

import { guestFiles } from '../src/guest.ts'

const { kernel, initrd } = guestFiles
const config = {
  memory: 256 << 20,
  kernel,
  initrd,
  append: 'console=tty0 quiet',
  plug: [{ driver: 'VGA', properties: {} }],
} as const

/** Waits until the screen shows a text; returns it. */
async function shows(vm: VirtualMachine, pattern: RegExp): Promise<string> {
  const until = performance.now() + 120_000
  for (;;) {
    const screen = await vm.screen()
    if (pattern.test(screen)) return screen
    if (performance.now() > until)
      throw new Error(`no ${String(pattern)} on the screen:\n${screen}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Size of a PNG, and how many different bytes its pixels have. */
function look(png: Uint8Array): { width: number; height: number; values: number } {
  const view = new DataView(png.buffer, png.byteOffset, png.length)
  const length = view.getUint32(33)
  const pixels = inflateSync(png.subarray(41, 41 + length))
  return { width: view.getUint32(16), height: view.getUint32(20), values: new Set(pixels).size }
}

test.serial('Linux has its console on the VGA screen, and takes what is typed', async (t) => {
  await using vm = await VirtualMachine.start(config)
  const screen = await shows(vm, /Leave with poweroff[^]*#\s*$/)
  t.regex(screen, /^Linux .*: up after/m)
  await vm.typeKeys("echo $((6*7)) '[@]' | tr 0-9 A-J\n")
  t.regex(await shows(vm, /^EC/m), /^EC \[@\]$/m)
  await vm.sendKeys(['ctrl', 'l'])
  t.is((await shows(vm, /^\S* #\s*$/)).trimEnd().split('\n').length, 1)
  const { width, height, values } = look(await vm.screenshot())
  t.deepEqual([width, height], [720, 400])
  t.true(values >= 2, 'characters are drawn')
})

test.serial('a machine with a screen is saved and shows it in another', async (t) => {
  await using vm = await VirtualMachine.start(config)
  const screen = await shows(vm, /#\s*$/)
  await vm.pause()
  const state = await vm.saveState()
  const picture = await vm.screenshot()
  await using other = new VirtualMachine({ ...config, startPaused: true })
  await other.start()
  await other.loadState(state)
  t.is(await other.screen(), screen)
  t.deepEqual(await other.screenshot(), picture)
  await other.resume()
  await other.typeKeys('echo again | tr a-z A-Z\n')
  t.regex(await shows(other, /^AGAIN$/m), /AGAIN/)
})

test.serial('without a screen the serial console is what there is', async (t) => {
  const { plug: _none, ...rest } = config
  await using vm = await VirtualMachine.start({ ...rest, append: 'console=ttyS0 quiet' })
  await vm.expect(/ # /, { timeoutMs: 120_000 })
  t.regex(await vm.screen(), /Leave with poweroff/)
  await t.throwsAsync(vm.screenshot(), { code: 'E_CONFIG' })
  await t.throwsAsync(vm.sendKeys(['hyper']), { code: 'E_KEY' })
  await t.throwsAsync(vm.typeKeys('ä'), { code: 'E_KEY' })
})
