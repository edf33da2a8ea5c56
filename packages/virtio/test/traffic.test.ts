import test from 'ava'
import * as fc from 'fast-check'
import { DATA, TABLE, connect } from './queues.ts'

test('random traffic keeps order, wraps at 65535 and follows the suppression model', (t) => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('submit' as const),
      count: fc.integer({ min: 1, max: 4 }),
      indirect: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('serve' as const), count: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ kind: fc.constant('event' as const), ahead: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ kind: fc.constant('flag' as const), on: fc.boolean() }),
  )
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 200 }),
      fc.boolean(),
      fc.integer({ min: 65_500, max: 65_535 }),
      (steps, eventIdx, startIdx) => {
        const { driver, queue } = connect({ eventIdx, startIdx, size: 16 })
        const expected: number[] = []
        let tables = 0
        const model = { used: startIdx, event: 0, wanted: true }
        for (const item of steps) {
          if (item.kind === 'submit') {
            const buffers = Array.from({ length: item.count }, (_, i) => ({
              gpa: DATA,
              length: i + 1,
            }))
            if (driver.freeDescriptors < item.count) continue
            // As many tables as there can be chains, so that none is in use.
            const table = item.indirect ? TABLE + 64 * (tables++ % 16) : undefined
            expected.push(driver.submit(buffers, table))
          } else if (item.kind === 'event') {
            model.event = (model.used + item.ahead) & 0xffff
            driver.setUsedEvent(model.event)
          } else if (item.kind === 'flag') {
            model.wanted = item.on
            driver.setInterrupts(item.on)
          } else {
            queue.disableNotification()
            let served = 0
            while (served < item.count) {
              const chain = queue.popChain()
              if (chain === undefined) break
              if (chain.head !== expected.shift()) return false
              queue.pushUsed(chain, served++)
            }
            // One after another, as the specification describes it.
            let wants = false
            for (let i = 0; i < served; i++) {
              if (eventIdx ? model.used === model.event : model.wanted) wants = true
              model.used = (model.used + 1) & 0xffff
            }
            if (queue.shouldNotify() !== wants) return false
            const more = queue.enableNotification()
            if (more !== expected.length > 0) return false
            if (driver.takeUsed().length !== served || driver.usedIdx !== model.used) return false
          }
        }
        return true
      },
    ),
    { numRuns: 500 },
  )
  t.pass()
})
