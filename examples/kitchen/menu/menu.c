// The menu: which dishes there are, and how long each takes. In C, with the bindings that
// `wit-bindgen c` makes of wit/menu.wit.

#include <stdlib.h>
#include <string.h>

#include "menu.h"

static const struct {
  const char *name;
  uint32_t minutes;
} MENU[] = {{"soup", 10}, {"bread", 2}, {"paella", 40}};

enum { DISHES = sizeof MENU / sizeof *MENU };

void exports_acme_menu_dishes_today(menu_list_string_t *ret) {
  ret->ptr = malloc(DISHES * sizeof *ret->ptr);
  ret->len = DISHES;
  for (size_t i = 0; i < DISHES; i++)
    menu_string_dup(&ret->ptr[i], MENU[i].name);
}

bool exports_acme_menu_dishes_minutes(menu_string_t *dish, uint32_t *ret) {
  for (size_t i = 0; i < DISHES; i++) {
    if (strlen(MENU[i].name) != dish->len || memcmp(MENU[i].name, dish->ptr, dish->len))
      continue;
    *ret = MENU[i].minutes;
    return true;
  }
  return false;
}
