import type { MonitorCommand } from './command.ts'

/** The word after `info` for places that processors can be plugged into. */
export const PROCESSOR_INFO: MonitorCommand = {
  name: 'hotpluggable-cpus',
  params: '',
  help: 'show the places for processors, and who is in them',
  maxArgs: 0,
  run: async ({ machine }) => {
    const places = await machine.manage('processors')
    const lines = places
      .toReversed()
      .flatMap(({ type, path, address }) => [
        `  type: "${type}"`,
        '  vcpus_count: "1"',
        ...(path === undefined ? [] : [`  qom_path: "${path}"`]),
        '  CPUInstance Properties:',
        ...ORDER.flatMap((name) =>
          address[name] === undefined ? [] : [`    ${name}: "${address[name]}"`],
        ),
      ])
    return ['Hotpluggable CPUs:', ...lines, ''].join('\n')
  },
}

const ORDER = ['socket-id', 'die-id', 'core-id', 'thread-id'] as const
