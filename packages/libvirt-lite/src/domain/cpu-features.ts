/** Features of processors whose names libvirt spells in its own way: QEMU's name, and libvirt's. */
const SPELLINGS = new Map([
  ['pclmulqdq', 'pclmuldq'],
  ...[
    'cmp-legacy',
    'ds-cpl',
    'fxsr-opt',
    'kvm-pv-eoi',
    'kvm-pv-unhalt',
    'lahf-lm',
    'nodeid-msr',
    'perfctr-core',
    'perfctr-nb',
    'tsc-adjust',
  ].map((name): [string, string] => [name, name.replaceAll('-', '_')]),
])
const PROPERTIES = new Map([...SPELLINGS].map(([theirs, ours]) => [ours, theirs]))

/** What libvirt calls a feature of an emulator's processors. */
export const featureName = (property: string): string => SPELLINGS.get(property) ?? property

/** What an emulator calls a feature. */
export const featureProperty = (name: string): string => PROPERTIES.get(name) ?? name
