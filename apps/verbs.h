// The verbs of `graft`, one file each (add_train_verb in train.cpp, …). A function adds its verb's options to the
// program and says what to run: parse, wire, run, print, nothing else.
#pragma once

#include "apps/command.h"

namespace graft {

void add_train_verb(Command& program);
void add_find_lr_verb(Command& program);
void add_plan_memory_verb(Command& program);
void add_internals_verb(Command& program);
void add_profile_verb(Command& program);
void add_evaluate_verb(Command& program);
void add_predict_verb(Command& program);
void add_explain_verb(Command& program);
void add_export_verb(Command& program);
void add_weights_import_verb(Command& weights);
void add_weights_inspect_verb(Command& weights);
void add_data_inspect_verb(Command& data);
void add_strategies_verb(Command& program);
void add_devices_verb(Command& program);
/// graft study plan, run, status, …
void add_study_verbs(Command& study);
void add_demo_verb(Command& program);

}  // namespace graft
