// The conformance table says what failed and what did not run.
import test from 'ava'
import { conformanceTable } from '../lib/conformance-table.mjs'

test('a row per test, a column per engine', (t) => {
  const tap = [
    'TAP version 13',
    'ok 1 - conformance › exits › soft: exits: HLT',
    'not ok 2 - conformance › exits › host: exits: HLT',
    'ok 3 - modes › soft: modes: a loop: in 16-bit code',
    'ok 4 - soft: smp: four # SKIP one host CPU',
    '# a comment',
  ].join('\n')
  t.is(
    conformanceTable(tap),
    [
      '| subject | what | soft | host |',
      '|---|---|---|---|',
      '| exits | HLT | yes | NO |',
      '| modes | a loop: in 16-bit code | yes |  |',
      '| smp | four | skipped |  |',
      '',
      'soft: 2 of 3 passed, host: 0 of 3 passed',
      '',
    ].join('\n'),
  )
})
