/* SPDX-License-Identifier: MIT */
#include "vecfs/config.h"
