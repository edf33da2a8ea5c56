/** Processor models that `-cpu` takes. */
export const CPU_MODELS = [
  { name: 'qemu64', help: 'a 64-bit processor with what every such guest expects' },
  { name: 'max', help: 'every feature that the accelerator has' },
  { name: 'host', help: "the host's processor, as far as the accelerator can show it" },
  { name: 'IvyBridge', help: 'Intel Xeon E3-12xx v2' },
  { name: 'Opteron_G1', help: 'AMD Opteron 240' },
] as const
