"""What a chat consists of besides facts: names, greetings, reactions, small talk, farewells.

In a line, `{y}` is the name of the one who is spoken to, `{about}` a noun phrase of the topic that is
talked about, `{ago}` a time that belongs to no fact; of `{a|b}` one is taken.
"""

from __future__ import annotations

from typing import Final


def _listed(names: str) -> tuple[str, ...]:
    return tuple(names.split())


NAMES: Final = _listed(
    "Maria Oskar Priya Tomas Ingrid Leon Amara Felix Noor Hugo Saskia Mateo Yuki Dario Elif Rowan "
    "Petra Samir Lucia Ansel Keiko Bruno Freya Omar Clara Viktor Zainab Emil Rosa Callum Anika Jonas "
    "Mei Stefan Talia Rafael Greta Idris Paloma Henrik Soraya Duncan Lena Akira Beatriz Marcus Hana "
    "Gideon Wanda Luca Farah Simon Irina Theo Marta Kofi Elise Pavel Dina Arthur Lotte Ravi Carmen "
    "Nils Esther Hassan Judith Milan Alma Peter Selma Victor Ruth Ivan Nadia George Olga Martin Iris "
    "Patrick Vera Daniel Tess Adam Paula Eric Monica Brian Helen Kevin Laura Steven Diane Aaron"
)

LISTS: Final[dict[str, tuple[str, ...]]] = {
    "friend": _listed(
        "Bea Kurt Jolene Ahmed Suki Wes Margot Tariq Nell Otis Gwen Pablo Ines Walt Dot Ezra"
    ),
    "relative": (
        "sister", "brother", "cousin", "uncle", "aunt", "dad", "mum", "niece", "nephew", "grandpa",
    ),
    "city": (
        "Lisbon", "Ghent", "Tampere", "Kraków", "Porto", "Leeds", "Valencia", "Graz", "Bergen",
        "Halifax", "Trieste", "Toulouse", "Aarhus", "Cork", "Brno", "Savannah", "Duluth", "Tucson",
    ),
    "few": ("two", "three", "four", "five", "six", "seven"),
    "many": ("twelve", "fifteen", "twenty", "twenty-five", "thirty", "forty", "sixty"),
    "years": ("two years", "three years", "five years", "six years", "eight years", "ten years"),
}  # fmt: skip
"""Values that any topic may use."""

GREETINGS: Final = (
    "Hey {y}! How have you been?",
    "Hi {y}, long time no talk! What's new?",
    "Hello {y}! Good to hear from you.",
    "Hey {y}, got a minute?",
    "{y}! I was just thinking about you. How are things?",
    "Morning {y}, how's your week going?",
    "Hi there! How was your week, {y}?",
    "Hey! It's been a while, {y}.",
    "Evening, {y}! Finally some time to write.",
    "Hey {y}, what have you been up to?",
    "Hi {y}! So much to tell you.",
    "Yo {y}, are you around?",
)

GREETED: Final = (
    "Hey {y}! All good here, busy as always.",
    "Hi {y}! Can't complain. And you?",
    "Good to hear from you too, {y}!",
    "Hey! Pretty tired, but happy.",
    "Oh hi {y}! It has been quite a week.",
    "Hey {y}, I'm doing fine, thanks for asking.",
    "Hi! Same old, same old. Tell me everything!",
    "Hello! I was about to message you, {y}.",
)

REACTIONS: Final = (
    "That's great, {y}!",
    "Wow, {y}, that's amazing!",
    "Oh no, {y}, I'm sorry to hear that.",
    "Nice one!",
    "That sounds lovely.",
    "Really? Tell me more!",
    "Ha, that is so you, {y}.",
    "I'm really happy for you, {y}.",
    "Good for you!",
    "No way!",
    "I can totally relate, {y}.",
    "That must have been something.",
    "Thanks for telling me, {y}.",
    "You deserve it.",
    "I'm impressed, {y}!",
    "That makes sense.",
    "Sounds like a lot, {y}.",
    "Oh, I love that!",
    "Congrats, {y}!",
    "Fingers crossed, {y}!",
    "Cool!",
    "I hear you.",
    "You always find something new, {y}.",
    "Glad it worked out.",
)

FRAMES: Final = (
    "I could {talk|go on} about {about} {for hours|all day}.",
    "There's nothing like {about} {to clear my head|after a long day|to lift my mood}.",
    "I was thinking {a lot |}about {about} {ago}.",
    "Honestly, I {never get tired of|learned patience from} {about}.",
    "I {spent|lost} {half the morning|a whole evening|an hour} on {about} {ago}.",
    "{Somebody|A colleague|My cousin} asked me about {about} {ago}, and I couldn't stop talking.",
    "I read {an article|a whole page|something} about {about} {ago}.",
    "I dreamt about {about} {ago}, that says a lot.",
    "I wish I {had|could find} more time for {about}.",
    "My {mum|dad|grandmother|neighbour} was always {crazy|serious|worried} about {about}.",
    "People {underestimate|forget|don't understand} how much {about} can {mean|matter}.",
    "It's funny how {about} can {bring people together|change the way you see things}.",
    "I want to {make|set aside} more time for {about} {this year|this month|from now on}.",
    "When I was {young|a kid|a student}, {about} meant {nothing|everything} to me.",
    "I took {a few|some} pictures of {about} {ago}, I'll send them to you.",
    "I always feel {calmer|better|lighter} after a day with {about}.",
    "With {about} you {never know|learn something every time|need a bit of luck}.",
    "I {watched|saw|found} a {documentary|video|lovely film} about {about} {ago}.",
    "Some days I think of nothing but {about}.",
    "We were just talking about {about} at {dinner|breakfast|the table} {ago}.",
    "I was never {patient|brave|calm} before {about}, it changed me.",
    "My plan for {the winter|the summer|next year} is simple: more time for {about}.",
    "I get {nervous|excited|emotional} just thinking about {about}.",
    "You know how I feel about {about}, {y}.",
    "You always {have good advice|ask the right thing|know a lot} when it comes to {about}, {y}.",
    "Talking with you about {about} always {helps|cheers me up}, {y}.",
    "I need to {learn|find out} more about {about} before I {decide|say anything}.",
    "My friends {laugh at|tease} me because of {about}, but I don't mind.",
    "For weeks now I {can't stop thinking about|keep coming back to} {about}.",
    "If it weren't for {about}, I'd {go mad|just sit at home}.",
)
"""About any topic, by either of the two."""

LATELY: Final = (
    "{ago} I {met|ran into} an old friend, and we talked about {about} {for hours|all evening}.",
    "{ago} I couldn't sleep, and all I thought of was {about}.",
    "I had a {long|strange|good} conversation about {about} {ago}.",
    "There was a {programme|report} about {about} on the radio {ago}.",
    "I {cleaned|sorted} my shelves {ago}, and everything reminded me of {about}.",
    "{ago} somebody {on the bus|in the queue|at the bakery} talked about {about}, and I had to smile.",
    "I had planned to rest {ago}, but then I got carried away with {about}.",
    "{ago} I made a list of everything I want to do about {about}.",
    "My {sister|mum|aunt} called {ago}, she had a hundred questions about {about}.",
    "I was in a bad mood {ago}, but {about} saved the day.",
    "{ago} it rained all day, the perfect excuse for {about}.",
    "I told my {boss|hairdresser|dentist} about {about} {ago}, who was not impressed.",
)
"""About any topic, with a time that belongs to no fact."""

QUESTIONS: Final = (
    "How do you feel about {about} {these days|now}?",
    "What do you {like|enjoy|love} {most|the most} about {about}?",
    "Do you still {think|dream|worry} a lot about {about}?",
    "How did you {first |}get into all this, {about} and everything?",
    "What's the hardest part of {about} for you, {y}?",
    "What would you tell somebody who knows nothing about {about}?",
    "Do you have {any plans|something new in mind} for {about}?",
    "Anything new about {about}, {y}?",
    "How much time do you spend on {about}?",
    "What comes to your mind first when you think of {about}?",
    "Does your family {care|talk} about {about} as well?",
    "Have you {read|seen} anything good about {about} lately?",
)
"""About any topic, to the other one."""

SHIFTS: Final = (
    "Speaking of {about}, I have something to tell.",
    "By the way, I keep meaning to talk to you about {about}.",
    "Something else: {about}.",
    "Changing the subject, let's talk about {about}.",
    "That reminds me of {about}, for some reason.",
    "Before I forget, I wanted to ask about {about}.",
    "And then there's {about}, of course.",
    "On another note, I thought of you {ago}, because of {about}.",
)
"""How a new topic begins."""

ENDS: Final = (
    "Ha, I know exactly what you mean!",
    "That's so true, {y}.",
    "Totally! Thanks for telling me.",
    "I hope so too, {y}!",
    "Yes, let's wait and see.",
    "Couldn't agree more, {y}!",
    "Wow, I had no idea.",
    "You're right, as always, {y}.",
    "Aw, thanks {y}, that's kind.",
    "Keep me posted, okay?",
)
"""Short turns, where a topic ends."""

AGREEMENTS: Final = (
    "Yes, exactly!",
    "Right, good memory, {y}!",
    "That's right, {y}.",
    "Yes! Thanks, {y}.",
    "True, I still can't believe it.",
    "I know, I know!",
)
"""The owner of a fact, after the other one has told it."""

TAGS: Final[dict[str, tuple[str, ...]]] = {
    "family": (
        "What activities does {x} do with the family?",
        "What does {x} enjoy doing with the family?",
        "What family events did {x} talk about?",
    ),
    "calm": ("What does {x} do to relax?", "How does {x} deal with stress?"),
    "made": (
        "What has {x} made by hand?",
        "Which things did {x} make?",
        "What has {x} created?",
    ),
    "bought": ("What items has {x} bought?", "What did {x} spend money on?"),
    "place": (
        "Which places has {x} visited?",
        "Where has {x} travelled to?",
        "Which trips has {x} made?",
    ),
    "gift": ("Which presents did {x} get or give?", "What gifts are mentioned by {x}?"),
    "hobby": ("What are the hobbies of {x}?", "What does {x} do in the spare time?"),
    "learned": ("What has {x} learned?", "Which new skills does {x} have?"),
    "won": ("What achievements does {x} have?", "What is {x} proud of?"),
    "bad": ("What setbacks has {x} had?", "What went wrong for {x}?"),
    "help": ("How does {x} help others?", "What does {x} do for the community?"),
    "outdoors": ("Which outdoor activities has {x} done?", "What does {x} do in nature?"),
    "event": ("Which events has {x} been to?", "What events did {x} attend?"),
}
"""Questions that facts of many topics answer together."""

SMALL_TALK: Final = (
    "It has been raining here for days, I barely leave the house.",
    "Work has been crazy lately.",
    "I slept terribly, so forgive my typos.",
    "My phone battery is dying, but go on.",
    "Did you see how late it gets dark now? I love it.",
    "I just made myself a big cup of tea.",
    "The neighbours are drilling again. Every single day!",
    "Traffic was awful this evening.",
    "I can't believe how fast this year is going.",
    "I still owe you a call, {y}.",
    "We really have to meet in person soon, {y}.",
    "Sorry for the late answer, it's been one of those days.",
    "I've been trying to spend less time on my phone, with little success.",
    "I finally cleaned the kitchen, you'd be proud of me, {y}.",
    "It's so cold that I put on two sweaters.",
    "Everything is blooming over here.",
    "I miss the old days when we met every week, {y}.",
    "Remember how we used to talk all night?",
    "I had the strangest dream about us being late for an exam.",
    "Money flies at the moment, everything is so expensive.",
    "The {bus|train|tram} was {late|packed} {ago}, I had to stand all the way.",
    "I {found|lost} my umbrella {ago}, it's a sign.",
    "I {baked|burned} some toast {ago}, that was the highlight of my day.",
    "The {lift|light|heating} in our building stopped working {ago}.",
    "I went to bed at {nine|ten} {ago}, like an old person.",
    "My inbox is {full|a nightmare}, I gave up {ago}.",
    "The {evenings|mornings} are so {quiet|grey|bright} at the moment.",
    "I ran into an old {classmate|teacher|neighbour} {ago}, we hardly recognised each other.",
    "Time for a {coffee|break|nap}, I think, but first I want to hear from you.",
    "I {bought|tried} a new kind of {tea|bread|cheese} {ago}, not bad at all.",
)

TAILS: Final = (
    "How about you, {y}?",
    "What about you?",
    "And you, anything new?",
    "Have you ever tried something like that, {y}?",
    "What do you think, {y}?",
    "Anyway, how are things on your side?",
)

LEADS: Final = (
    "By the way, ",
    "Oh, and ",
    "Guess what, ",
    "So, ",
    "Big news: ",
    "I haven't told you yet: ",
    "Well, ",
    "Actually, ",
)

FAREWELLS: Final = (
    "I have to run, talk soon, {y}!",
    "Okay, dinner is calling. Take care, {y}!",
    "Got to go, my bus is here. Bye!",
    "Let's talk again soon, {y}. Good night!",
    "It was so good to catch up, {y}.",
    "Thanks for listening, {y}. Bye for now!",
    "Take care, {y}, and say hi to everyone!",
    "Bye {y}! Keep me posted.",
    "See you, {y}!",
    "You too! Talk to you soon.",
)

PHOTOS: Final = (
    "a cup of coffee on a windowsill",
    "a sunset over the rooftops",
    "a wet street with umbrellas",
    "two people laughing on a bench",
    "a plate of cookies on a wooden table",
    "a cloudy sky above a field",
    "a messy desk with a laptop",
    "a path between tall trees",
    "a hand holding a mug",
    "a group of friends around a table",
)
