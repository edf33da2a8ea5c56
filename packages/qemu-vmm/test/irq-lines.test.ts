import test from 'ava'

import type { IrqLine } from '../src/device.ts'
import { IrqLines } from '../src/machine/irq.ts'

test('a line that changed while the machine stood is told of in the machine that its state is loaded into', (t) => {
  const told: string[] = []
  const create = (name: string): { lines: IrqLines; sources: IrqLine[] } => {
    const lines = new IrqLines((gsi, level) => told.push(`${name} ${gsi} ${level}`))
    return {
      lines,
      sources: [lines.source(9), lines.source(10), lines.source(11), lines.source(12)],
    }
  }
  const first = create('first')
  first.sources[1]!.set(true)
  first.sources[2]!.set(true)
  first.lines.hold()
  first.sources[0]!.set(true)
  first.sources[1]!.set(false)
  first.sources[3]!.pulse()
  const state = structuredClone(first.lines.save())
  t.deepEqual(state, { late: [9, 10], rose: [9, 12] })
  told.length = 0
  const second = create('second')
  second.lines.hold()
  second.sources[0]!.set(true)
  second.sources[2]!.set(true)
  second.lines.load(state)
  second.lines.settle()
  second.lines.release()
  t.deepEqual(told, ['second 9 1', 'second 10 0', 'second 12 1', 'second 12 0'])
  t.deepEqual(second.lines.save(), { late: [], rose: [] })
  t.throws(() => second.lines.load({ late: [-1], rose: [] }), { code: 'E_STATE' })
})
