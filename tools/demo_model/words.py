"""The closed word lists. Every word becomes one token, with and without a space before it."""

NAMES = ("Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Klara Leo Mia Noah Olga Paul "
         "Rosa Sam Tina Victor").split()
ANIMALS = ("bear bird cat cow dog duck fish fox frog goat hen horse lion mouse owl pig rabbit sheep "
           "snake wolf").split()
COLORS = "black blue brown gold gray green orange pink purple red silver white yellow".split()
CITIES = "Berlin Cairo Delhi Lima London Madrid Milan Oslo Paris Prague Rome Tokyo Vienna Warsaw".split()
FOODS = ("apple bread butter cake carrot cheese cherry corn egg grape honey lemon melon onion pear pepper "
         "plum rice salt soup").split()
THINGS = ("ball basket bell book bottle box button chair clock coin cup door drum hammer hat key kettle "
          "ladder lamp letter mirror needle paper pencil pillow ring shoe spoon table window").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FIELDS = "name age city color pet food size code room owner price year".split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz")

KEYS = ANIMALS + FOODS + THINGS + NAMES                       # what a fact may be about
VALUES = {"color": COLORS, "animal": ANIMALS, "city": CITIES, "food": FOODS}
SPELLED = ANIMALS + COLORS + FOODS + THINGS                   # lower-case words of 3 to 8 letters
ALL = NAMES + ANIMALS + COLORS + CITIES + FOODS + THINGS + DAYS + FIELDS + LETTERS
