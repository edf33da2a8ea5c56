import { array, int, nothing, string, struct, uint } from '../codec.ts'
import { domainRef } from '../message.ts'
import { typedParam } from '../typed-param.ts'
import { action, query } from './procedure.ts'

const params = array(typedParam, 16)
const setting = struct({ dom: domainRef, params, flags: uint })
const question = struct({ dom: domainRef, max: int, flags: uint })
const answer = struct({ params: array(typedParam, 16), count: int })

/** What domains may take of their host. */
export const TUNING = {
  DOMAIN_GET_SCHEDULER_TYPE: query(
    56,
    struct({ dom: domainRef }),
    struct({ type: string, count: int }),
  ),
  DOMAIN_GET_SCHEDULER_PARAMETERS: query(
    57,
    struct({ dom: domainRef, max: int }),
    struct({ params }),
  ),
  DOMAIN_SET_SCHEDULER_PARAMETERS: action(58, struct({ dom: domainRef, params }), nothing),
  DOMAIN_SET_MEMORY_PARAMETERS: action(197, setting, nothing),
  DOMAIN_GET_MEMORY_PARAMETERS: query(198, question, answer),
  DOMAIN_SET_BLKIO_PARAMETERS: action(205, setting, nothing),
  DOMAIN_GET_BLKIO_PARAMETERS: query(206, question, answer),
  DOMAIN_SET_INTERFACE_PARAMETERS: action(
    256,
    struct({ dom: domainRef, device: string, params, flags: uint }),
    nothing,
  ),
  DOMAIN_GET_INTERFACE_PARAMETERS: query(
    257,
    struct({ dom: domainRef, device: string, max: int, flags: uint }),
    answer,
  ),
  DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS: action(219, setting, nothing),
  DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS: query(223, question, struct({ params })),
} as const
