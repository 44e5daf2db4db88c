// libyaml: a YAML 1.1 event parser whose events carry places. Imported by YAML alone.
#include <yaml.h>
